"""benchmarks/gpu.py and launches.py, as far as they can be tested without a GPU."""

import collections
import subprocess
import sys

from backstage import tf

import numpy as np
import pytest
from conftest import ROOT, SMALL

sys.path.insert(0, str(ROOT / 'benchmarks'))

import gpu
import launches
from shared import parse

pytestmark = pytest.mark.long


def cudnn_lstm(input, input_h, input_c, params, sequence_lengths):
    """Stand in for CudnnRNNV3, with the equations and the weight order that NVIDIA documents."""
    time, _, width = input.shape.as_list()
    units = input_h.shape[2].value
    sizes = [4 * units * width, 4 * units * units, 4 * units, 4 * units]
    W, R, b_W, b_R = tf.split(params, sizes)
    W, R = tf.reshape(W, [4 * units, width]), tf.reshape(R, [4 * units, units])
    h, c, outputs = input_h[0], input_c[0], []
    for x in tf.unstack(input):
        sums = tf.matmul(x, W, transpose_b=True) + b_W + tf.matmul(h, R, transpose_b=True) + b_R
        i, f, new, o = tf.split(sums, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(new)
        h = tf.sigmoid(o) * tf.tanh(c)
        outputs.append(h)
    assert sequence_lengths.shape.as_list() == [input.shape[1].value] and time == len(outputs)
    return tf.stack(outputs), h[None], c[None], None, None


@pytest.mark.parametrize('residual', [True, False])
def test_all_ways_have_the_same_losses(residual, monkeypatch):
    monkeypatch.setattr(tf.raw_ops, 'CudnnRNNV3', cudnn_lstm)
    found = {}
    for name, way in gpu.WAYS.items():
        steps = gpu.Steps(way, parse(*SMALL, '--training_seq_len=6', f'--residual={residual}'))
        steps.run(4)
        steps.end()
        found[name] = steps.losses
    for losses in found.values():
        np.testing.assert_allclose(losses[0], found['script'][0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(losses, found['script'], rtol=0, atol=1e-4)
    assert len(set(found['script'])) == 4 and len(found) == 4


def test_a_way_that_fails_loses_only_its_own_cell():
    found, losses = gpu.measure(0, parse(*SMALL), ['cuDNN', 'script'])
    assert 'CudnnRNNV3' in found['cuDNN'] and ' to ' in found['script']
    assert list(losses) == ['script']


def test_without_a_gpu_there_is_a_table_and_no_tensorflow_log():
    short = '--seconds=0', *SMALL, '--num_layers=1', '--training_seq_len=2', '--device=cpu'
    command = [sys.executable, 'benchmarks/gpu.py', *short]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'universal_newlines': True}
    done = subprocess.run(command, check=True, cwd=str(ROOT), **pipes)
    head, _, *rows = [line for line in done.stdout.splitlines() if line.startswith('|')]
    assert head == '| batch_size | script | static_rnn | dynamic_rnn | cuDNN |'
    assert [row.split()[1] for row in rows] == ['100', '200', '400', '800', '1,600']
    assert all(row.count(' to ') == 3 and row.endswith('| no GPU |') for row in rows)
    assert done.stderr == ''
    assert f'TensorFlow {tf.__version__}' in done.stdout and 'GPU: none' in done.stdout
    assert 'cudnn_version' in done.stdout


def test_the_driver_version_comes_from_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert gpu.driver() == 'none found'
    for text, said in ('echo 535.104.05', '535.104.05'), ('exit 9', 'none found'):
        (tmp_path / 'nvidia-smi').write_text(f'#!/bin/sh\n{text}\n')
        (tmp_path / 'nvidia-smi').chmod(0o755)
        assert gpu.driver() == said


def test_launches_count_each_execution_of_an_operation():
    settings = parse(*SMALL, '--device=cpu')  # 3 layers, 12 characters
    found = {way: launches.operations_of(way, settings) for way in gpu.WAYS}
    kinds = {way: collections.Counter(op.type for op in found[way]) for way in found}
    assert kinds['script']['LSTMBlockCellGrad'] == 3 * 12
    blocks = [op for op in found['script'] if op.type == 'BlockLSTM']
    assert sum(map(launches.launches_of, blocks)) == 3 * 3 * 12
    # For each step of a layer one product, and two for the gradient; three for the matrix W.
    assert kinds['static_rnn']['MatMul'] == kinds['dynamic_rnn']['MatMul'] == 3 * 3 * 12 + 3
    assert kinds['cuDNN']['CudnnRNNV3'] == kinds['cuDNN']['CudnnRNNBackpropV3'] == 3
    places = {launches.place_of(operation) for some in found.values() for operation in some}
    assert places == set(launches.PLACES) - {'no GPU kernel'}


def test_operations_that_only_pass_on_memory_launch_nothing():
    with tf.Graph().as_default():
        values = tf.placeholder(tf.float32, [16, 32])
        places = {
            'launch': [tf.transpose(values), *tf.split(values, 2, axis=1), values + values],
            'pass memory on': [
                tf.split(values, [4, 12])[0],
                tf.transpose(values, [0, 1]),
                values[0],
            ],
            'in host memory': [tf.split(tf.cast(values, tf.int32), [4, 12])[0]],
            'no GPU kernel': [tf.as_string(values)],
        }
    for place, results in places.items():
        assert {launches.place_of(result.op) for result in results} == {place}
