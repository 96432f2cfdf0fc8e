"""Count the kernels that a training step launches on a GPU, for docs/gpu.md.

    python benchmarks/launches.py [a setting, such as --rnn_size=64 ...]

The program runs a step on the CPU, and looks up each operation that ran in TensorFlow's list of
kernels. An operation with a GPU kernel counts as one launch, or as LAUNCHES says. Some, such as
sums, launch more than one kernel, so the counts are lower bounds.
"""

import collections
import functools
import sys

import shared
from gpu import WAYS, Steps, build, wanted
from shared import as_table, parse, tf

# These pass on their input or a part of it, or compute nothing. A part shares the memory of the
# input if it is aligned, which holds here.
PASS_ON = {
    'Const', 'ControlTrigger', 'Enter', 'Exit', 'Identity', 'IdentityN', 'LoopCond', 'Merge',
    'NextIteration', 'NoOp', 'Placeholder', 'PreventGradient', 'Reshape', 'StackPopV2',
    'StackPushV2', 'StackV2', 'StridedSlice', 'Switch', 'TensorArrayGradV3', 'TensorArrayReadV3',
    'TensorArrayV3', 'TensorArrayWriteV3', 'Unpack', 'VariableV2',
}  # fmt: skip
# From TensorFlow's lstm_ops.cc and lstm_ops_gpu.cu.cc: a step joins x and h, multiplies, and
# computes the gates. Its gradient launches one kernel for the gates, and three that fill the
# gradients of the peepholes with zeros.
LAUNCHES = {'BlockLSTM': lambda op: 3 * op.inputs[1].shape[0].value, 'LSTMBlockCellGrad': 4}
PLACES = 'launch', 'pass memory on', 'in host memory', 'no GPU kernel'


@functools.lru_cache(maxsize=None)
def kernels_of(kind):
    from tensorflow.python.framework import kernels

    return kernels.get_registered_kernels_for_op(kind).kernel


def gpu_kernel(operation):
    """Return TensorFlow's GPU kernel for an operation and the types it works on, a KernelDef."""
    for kernel in kernels_of(operation.type):
        # In a 2.x, operations that only move memory have one kernel for all devices.
        if kernel.device_type in ('GPU', 'DEFAULT') and all(
            operation.get_attr(constraint.name)
            in [tf.as_dtype(number) for number in constraint.allowed_values.list.type]
            for constraint in kernel.constraint
        ):
            return kernel
    return None


def place_of(operation):
    """Return which of PLACES an operation belongs to on a GPU."""
    kernel = gpu_kernel(operation)
    if kernel is None:
        return 'no GPU kernel'
    results = {result.name for result in operation.op_def.output_arg}
    if results and results <= set(kernel.host_memory_arg):
        return 'in host memory'
    if operation.type in ('Split', 'SplitV', 'Transpose'):  # split by rows, or no two axes swapped
        before, after = operation.inputs[operation.type == 'Split'], operation.outputs[0]
        return (
            'pass memory on'
            if before.shape[1:].as_list() == after.shape[1:].as_list()
            else 'launch'
        )
    return 'pass memory on' if operation.type in PASS_ON else 'launch'


def launches_of(operation):
    """Return the least number of kernels that an operation launches on a GPU."""
    number = LAUNCHES.get(operation.type, 1) if place_of(operation) == 'launch' else 0
    return number(operation) if callable(number) else number


def operations_of(way, settings):
    """Return the operations that run in a training step: list of tf.Operation, with repeats."""
    if way == 'cuDNN':  # it does not run here, and has no loop
        graph, model, _ = build(WAYS[way], settings)
        names = [one.name.split(':')[0] for one in wanted(model)]
        needed = tf.graph_util.extract_sub_graph(graph.as_graph_def(), names)
        return [graph.get_operation_by_name(node.name) for node in needed.node]
    steps, metadata = Steps(WAYS[way], settings), tf.RunMetadata()
    steps.session.run(steps.wanted, steps.feed, tf.RunOptions(trace_level=3), metadata)
    ran = [
        node.node_name
        for device in metadata.step_stats.dev_stats
        if device.device.endswith('device:CPU:0')
        for node in device.node_stats
    ]
    known = {operation.name: operation for operation in steps.session.graph.get_operations()}
    steps.end()
    # The others that ran are inputs, or constants that TensorFlow has folded.
    return [known[name] for name in ran if name in known]


def main(*arguments):
    settings = parse(*arguments, '--device=cpu', '--keep_prob=1')
    found = {way: operations_of(way, settings) for way in WAYS}
    rows = []
    for way, operations in found.items():
        places = collections.Counter(map(place_of, operations))
        total = sum(map(launches_of, operations))
        cells = len(operations), *(places[place] for place in PLACES), total
        rows.append((way, *(f'{cell:,}' for cell in cells)))
    print(shared.about_machine())
    print(as_table(('way', 'operations', *PLACES, 'launches, at least'), rows))
    kinds, totals = collections.defaultdict(list), collections.Counter()
    for operation in found['script']:
        kinds[operation.type].append(place_of(operation))
        totals[operation.type] += launches_of(operation)
    rows = [
        (kind, *(f'{kinds[kind].count(place)}' for place in PLACES[:3]), f'{total}')
        for kind, total in totals.most_common()
        if set(kinds[kind]) != {'pass memory on'}
    ]
    print(as_table(('kind, of the script', *PLACES[:3], 'launches, at least'), rows))
    print(f'{shared.multiplications(settings) / 1e9:.1f} GFLOP in products')


if __name__ == '__main__':
    main(*sys.argv[1:])
