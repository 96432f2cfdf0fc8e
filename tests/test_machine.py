"""The machine: its cores, its memory, and its GPU. No test needs a GPU."""

import os
import sys

from backstage import machine, tf
from backstage.settings import UserError

import pytest
from conftest import ROOT, SMALL, parse, script
from tensorflow.python.client import device_lib

sys.path.insert(0, str(ROOT / 'benchmarks'))

from launches import gpu_kernel


def test_only_the_cores_that_this_process_may_use_count(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {1, 5, 6}, raising=False)
    assert machine.available_cores() == 3
    assert machine.session_config().inter_op_parallelism_threads == 3
    monkeypatch.delattr(os, 'sched_getaffinity')  # as on a Mac
    assert machine.available_cores() == os.cpu_count()


GROUPS = {  # what a container finds: /proc/self/cgroup, and the files of its control groups
    'version 2': (
        '0::/user/session\n',
        {
            'cpu.max': 'max 100000\n',
            'user/cpu.max': '150000 100000\n',
            'user/memory.max': '1073741824\n',
            'user/session/cpu.max': 'max 100000\n',
            'user/session/memory.max': 'max\n',
        },
    ),
    'version 1': (
        '4:memory:/docker/1f\n1:cpu,cpuacct:/docker/1f\n0::/system.slice\n',
        {  # Docker mounts the container's own group at the top, not under its name
            'cpu,cpuacct/cpu.cfs_quota_us': '160000\n',
            'cpu,cpuacct/cpu.cfs_period_us': '100000\n',
            'memory/memory.limit_in_bytes': '1073741824\n',
        },
    ),
    'no limits': ('', {}),
}


@pytest.mark.parametrize('kind', GROUPS)
def test_the_limits_of_a_container_apply(kind, tmp_path, monkeypatch):
    groups, contents = GROUPS[kind]
    (tmp_path / 'proc/self').mkdir(parents=True)
    (tmp_path / 'proc/self/cgroup').write_text(groups)
    for name, content in contents.items():
        path = tmp_path / 'sys/fs/cgroup' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    limits = machine.limits
    monkeypatch.setattr(machine, 'limits', lambda name: limits(name, root=str(tmp_path)))
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, 'sysconf', {'SC_PHYS_PAGES': 2**21, 'SC_PAGE_SIZE': 4096}.get)
    found = machine.available_cores(), machine.available_memory()
    assert found == ((2, 2**30) if contents else (64, 2**33))


def test_sessions_use_one_thread_per_operation_and_gpu_memory_as_needed():
    config = machine.session_config()
    assert config.intra_op_parallelism_threads == 1
    assert machine.session_config(4).intra_op_parallelism_threads == 4
    assert config.gpu_options.allow_growth and config.allow_soft_placement
    assert config.device_count == machine.session_config(1, 'gpu').device_count == {}
    assert machine.session_config(1, 'cpu').device_count == {'GPU': 0}


@pytest.mark.parametrize(
    'workers, on_host, numbers',
    [
        (1, 1, 7 * 2600 + 96 * (25 * 16 + 6 * 40)),
        (4, 2, 2 * (7 * 2600 + 24 * (25 * 16 + 6 * 40))),
    ],
)
def test_a_model_that_does_not_fit_into_memory_is_refused(monkeypatch, workers, on_host, numbers):
    settings = parse(*SMALL, '--num_layers=1')
    present = {'SC_PHYS_PAGES': numbers, 'SC_PAGE_SIZE': 4}
    monkeypatch.setattr(os, 'sysconf', present.get)
    machine.check_memory(settings, 40, workers, on_host)
    present['SC_PHYS_PAGES'] -= 1
    with pytest.raises(UserError, match='Lower rnn_size, num_layers, batch_size or training_seq'):
        machine.check_memory(settings, 40, workers, on_host)


def ancestors(tensors_and_operations):
    """Return the operations of these, and all operations that they depend on."""
    seen = set()
    waiting = [getattr(one, 'op', one) for one in tensors_and_operations]
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return seen


def test_every_operation_of_a_training_step_has_a_gpu_kernel():
    with tf.Graph().as_default():
        model = script.LSTM_Model(parse(*SMALL, '--num_layers=2', '--keep_prob=0.5'), 40)
        # Two operations without one, to check that they would be found
        assert not gpu_kernel(tf.strings.length('text').op)
        assert not gpu_kernel(tf.matmul(*[tf.ones([2, 2], tf.int32)] * 2).op)
    operations = ancestors([model.train_op, model.cost, model.final_state, model.gradient_norm])
    assert len(operations) > 200
    without = {operation.type for operation in operations if not gpu_kernel(operation)}
    # These never run on a device: they are fed from outside, or only wait for other operations.
    assert without <= {'Placeholder', 'NoOp'}
    expected = {'MatMul', 'ApplyAdam', 'BlockLSTM', 'LSTMBlockCellGrad'}
    assert expected <= {one.type for one in operations}


def test_a_gpu_is_required_only_if_it_is_asked_for(monkeypatch):
    devices = []
    monkeypatch.setattr(device_lib, 'list_local_devices', lambda *_: devices)
    machine.check_device('cpu')
    machine.check_device('auto')
    with pytest.raises(UserError, match='TensorFlow found no GPU'):
        machine.check_device('gpu')
    devices.append(device_lib.device_attributes_pb2.DeviceAttributes(device_type='GPU'))
    machine.check_device('gpu')
    with tf.Session(config=machine.session_config(1, 'cpu')) as session:
        assert 'GPU' not in machine.device_in_use(session, 'cpu')
        assert machine.device_in_use(session, 'auto').endswith('TensorFlow found no GPU')
