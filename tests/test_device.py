"""The device: what can be known of a GPU where there is none."""

import numpy as np
import pytest
from conftest import SMALL, Stack, run_script, script
from tensorflow.python.framework import kernels

tf = script.tf


def ancestors(tensors_and_operations):
    """Return all operations that have to run for these."""
    seen = set()
    waiting = [getattr(one, 'op', one) for one in tensors_and_operations]
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return seen


def has_gpu_kernel(operation):
    """Return whether TensorFlow has a GPU kernel for an operation and the types it works on."""
    for kernel in kernels.get_registered_kernels_for_op(operation.type).kernel:
        if kernel.device_type == 'GPU' and all(
            operation.get_attr(constraint.name)
            in [tf.as_dtype(number) for number in constraint.allowed_values.list.type]
            for constraint in kernel.constraint
        ):
            return True
    return False


# What is never run on a device: fed from outside, and points where others wait for each other.
NOT_COMPUTED = {'Placeholder', 'NoOp'}


@pytest.fixture(params=['--keep_prob=1', '--keep_prob=0.5'])
def models(request):
    settings = script.read_settings([*SMALL, request.param])
    with tf.Graph().as_default() as graph:
        models = script.build_models(settings, 40, script.ALONE)
        graph.finalize()
    return models


def test_everything_from_the_batch_to_the_update_of_the_weights_has_a_gpu_kernel(models):
    model, _ = models
    operations = ancestors([model.train_op, model.cost, model.final_state, model.gradient_norm])
    assert len(operations) > 300
    without = {operation.type for operation in operations if not has_gpu_kernel(operation)}
    assert without <= NOT_COMPUTED
    assert {'MatMul', 'ApplyAdam', 'Sigmoid', 'Tanh'} <= {one.type for one in operations}


def test_an_operation_without_a_gpu_kernel_would_be_found():
    with tf.Graph().as_default():
        assert not has_gpu_kernel(tf.strings.length('text').op)
        assert not has_gpu_kernel(tf.matmul(*[tf.ones([2, 2], tf.int32)] * 2).op)
        assert has_gpu_kernel(tf.matmul(*[tf.ones([2, 2])] * 2).op)


def test_measuring_and_sampling_leave_only_control_and_whole_numbers_to_the_cpu(models):
    _, reader = models
    operations = ancestors([reader.losses, reader.hits, reader.sampled, reader.sampled_state])
    without = {operation.type for operation in operations if not has_gpu_kernel(operation)}
    # The characters drawn are kept in an array of int32; an Assert has a text to show.
    arrays = {'TensorArrayV3', 'TensorArrayWriteV3'}
    assert without <= {*NOT_COMPUTED, 'LoopCond', 'Const', 'Assert', *arrays}
    constants = [one for one in operations if one.type == 'Const' and not has_gpu_kernel(one)]
    assert {one.get_attr('dtype') for one in constants} <= {tf.string}


def test_the_cpu_can_be_asked_for_where_there_is_a_gpu():
    assert script.session_config(1, 'cpu').device_count == {'GPU': 0}
    assert script.session_config(1, 'auto').device_count == {}
    assert script.session_config(1, 'gpu').device_count == {}


def test_only_who_did_not_ask_for_the_cpu_is_told_that_no_gpu_was_found():
    with tf.Session(config=script.session_config(1, 'cpu')) as session:
        assert 'GPU' not in script.device_in_use(session, 'cpu')
        assert script.device_in_use(session, 'auto').endswith('TensorFlow found no GPU')


def test_mixed_precision_on_the_cpu_is_refused():
    with pytest.raises(script.UserError, match='Leave one of them out'):
        script.check_device(script.session_config(1, 'cpu', True), 'cpu', mixed_precision=True)


needs_no_gpu = pytest.mark.skipif(
    any(one.device_type == 'GPU' for one in script.device_lib.list_local_devices()),
    reason='this machine has a GPU',
)


@needs_no_gpu
@pytest.mark.parametrize('argument', ['--device=gpu', '--mixed_precision'])
def test_a_gpu_that_is_not_there_is_one_sentence_with_the_libraries_that_are_missing(
    tmp_path, short_text, argument
):
    status, _, errors = run_script(f'--text_file={short_text}', argument, cwd=tmp_path)
    assert (status, errors.count('\n')) == (2, 1)
    assert f'leave {argument[2:].split("=")[0]} out.' in errors
    for library in script.CUDA_LIBRARIES:
        assert (library in errors) != script.can_load(library)
    assert not (tmp_path / 'temp').exists()


@pytest.fixture
def stacks():
    """Two models with the same weights, the second with mixed precision, which a CPU ignores."""
    yield Stack(), Stack(mixed_precision=True)
    tf.train.experimental.disable_mixed_precision_graph_rewrite()


def test_with_mixed_precision_the_graph_has_the_same_loss_and_gradient(stacks):
    losses = [stack.run([stack.model.cost, *stack.gradients]) for stack in stacks]
    for one, other in zip(*losses):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_with_mixed_precision_a_step_without_a_number_is_left_out_and_counted(stacks):
    _, stack = stacks
    feed = {stack.model.learning_rate: 0.1}
    stack.run(stack.model.train_op, feed=feed)
    after_a_step = stack.values()
    stack.state[:] = np.nan
    stack.run(stack.model.train_op, feed=feed)
    for name, value in stack.values().items():
        np.testing.assert_array_equal(value, after_a_step[name])
    assert stack.session.run(stack.model.iteration) == 2


def test_mixed_precision_is_brought_in_by_the_optimizer_of_graphs_which_is_off_otherwise():
    for mixed_precision in (False, True):
        config = script.session_config(1, 'auto', mixed_precision)
        options = config.graph_options.rewrite_options
        assert options.disable_meta_optimizer == (not mixed_precision)
