"""benchmarks/: the script beside PyTorch and JAX (`make peers` itself compares their models with
each other before it measures), and beside another checkout."""

import os
import sys
import types

import numpy as np
import pytest
from conftest import ROOT, parse, script

sys.path.insert(0, str(ROOT / 'benchmarks'))

import against
import peer
import peers
import shared
import turns


def cells(line):
    return line.strip('| ').split(' | ')


# Seconds per step of each turn, and memory in MB
MEASURED = {
    'the script, TensorFlow 1.15': ([2.0, 2.0], 300),
    'the script, TensorFlow 2': ([1.6, 1.6], 900),
    'PyTorch, `nn.LSTM`': ([5.0, 5.0], 1000),
    'PyTorch, `nn.LSTM`, `torch.compile`': ([3.0, 5.0], 1100),
    'JAX, `scan`': ([8.0, 8.0], 500),
    'a product, TensorFlow 1.15': ([0.2], 1),
    'a product, TensorFlow 2': ([0.1], 1),
    'a product, PyTorch': ([0.4], 1),
}


@pytest.fixture
def measured():
    """What peers.measure returns, but for the processes."""
    return {
        kind: types.SimpleNamespace(seconds=seconds, median=np.median(seconds), memory=memory)
        for kind, (seconds, memory) in MEASURED.items()
    }


def test_the_models_that_are_compared_have_the_scripts_default_shape():
    assert {name: getattr(script, name) for name in peer.SHAPE} == peer.SHAPE
    assert peer.VOCAB_SIZE == shared.VOCAB_SIZE == 40
    assert script.max_gradient_norm == peer.MAX_GRADIENT_NORM


def test_each_model_takes_the_shapes_that_the_script_takes(monkeypatch, capsys):
    def begin(settings, weights, batches):
        x, y = next(batches)
        np.testing.assert_array_equal(x[1:], y[:-1])
        given.append((vars(settings), x.shape, weights['lstm.weight_hh_l0'].shape))
        while True:
            print('no answer')
            yield 1.0

    for shape in shared.SHAPES:
        given = []
        monkeypatch.setattr(sys, 'argv', ['peer.py', 'kind', *shape])
        monkeypatch.setattr(sys, 'stdin', ['2\n', '1\n'])
        with monkeypatch.context() as patched:
            patched.setattr(sys, 'stdout', sys.stdout)  # which serve replaces
            peer.main({'kind': begin})
        settings = parse(*shape)
        own = {name: getattr(settings, name) for name in peer.SHAPE}
        batch, kernel = (own['training_seq_len'], own['batch_size']), own['rnn_size']
        assert given == [(own, batch, (4 * kernel, kernel))]
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3  # one when it is ready
        for line in lines:
            seconds, megabytes = map(float, line.split())
            assert 0 <= seconds < 1 and megabytes > 10


def test_each_is_compared_with_the_fastest_of_each_other_turn_by_turn(measured):
    shape = '--rnn_size=64', '--batch_size=10'
    head, _, row = peers.summary({shape: measured}).splitlines()
    assert cells(row) == [
        '--rnn_size=64 --batch_size=10', '2.00 (1.75 to 2.25)', '4.00 (4.00 to 4.00)',
        '2.50 (2.19 to 2.81)', '5.00 (5.00 to 5.00)',
    ]  # fmt: skip
    assert len(cells(head)) == len(cells(row))


def test_the_arithmetic_of_a_step_is_set_against_the_fastest_product_of_all(measured):
    shape = '--rnn_size=512', '--batch_size=10'
    head, _, *rows = peers.details(shape, measured).splitlines()
    assert {len(cells(row)) for row in rows} == {len(cells(head))}
    ours, _, lstm, *_ = map(cells, rows)
    step = shared.multiplications(parse(*shape)) / 2.0 / 1e9
    share = f'{step:,.0f}, {step / 171.8:.0%}'  # 2 * 2048**3 / 0.1 is 171.8e9
    same = '1.00 (1.00 to 1.00)'
    assert ours[1:] == ['250 (250 to 250)', same, share, '300']
    assert lstm[1:3] == ['100 (100 to 100)', '2.50 (2.50 to 2.50)']
    assert [cells(row)[3] for row in rows[-3:]] == ['86, 50%', '172, 100%', '43, 25%']


def test_models_that_learn_differently_are_not_measured(tmp_path):
    def program(name, first, last):
        (tmp_path / name).write_text(f'print({first}, {last})\n')
        return sys.executable, str(tmp_path / name)

    one = program('one.py', 3.6, 3.5)
    peers.check([one, program('same.py', 3.60004, 3.5004)])
    for losses in (3.6, 3.5006), (3.60006, 3.5):
        with pytest.raises(RuntimeError, match='learn differently'):
            peers.check([one, program('other.py', *losses)])


def test_every_kind_is_started_with_its_own_python_and_all_take_seven_turns(monkeypatch):
    started = []
    monkeypatch.setattr(peers, 'take_turns', lambda number, *steppers: started.append(number))
    monkeypatch.setattr(
        peers, 'Stepper', lambda name, *shape, python, program: (name, shape, python, program)
    )
    pythons, shape = ['one', 'two', 'torch', 'jax'], ('--rnn_size=64',)
    assert set(peers.measure(pythons, ())) == set(peers.KINDS)
    found = peers.measure(pythons, shape)
    assert started == [7, 7] and set(found) == set(MEASURED)
    assert found['the script, TensorFlow 2'] == ('script_steps', shape, 'two', turns.STEPS)
    assert found['JAX, `scan`'] == ('scan_1', shape, 'jax', peers.JAX)


def test_processes_take_turns_each_as_many_steps_as_fill_the_time(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        f'import os, sys, time\nsys.path.insert(0, {str(ROOT / "benchmarks")!r})\n'
        'from turns import serve\n'
        'def steps():\n    while True:\n        yield print("no answer")\n'
        '        time.sleep(float(os.environ["PACE"]))\n'
        'if sys.argv[1] != "broken": serve(steps())\n'
    )
    slow, fast = (
        turns.Stepper('sleep', program=str(program), PACE=pace) for pace in ('0.05', '0.01')
    )
    turns.take_turns(3, slow, fast, seconds=0.1)
    for stepper, pace in (slow, 0.05), (fast, 0.01):
        assert stepper.process.returncode == 0 and len(stepper.seconds) == 3
        assert pace <= stepper.median < 10 * pace
        assert 1 < stepper.memory_at_start <= stepper.memory < 10_000  # with its parent's
    with pytest.raises(RuntimeError, match='ended early'):
        turns.take_turns(3, turns.Stepper('broken', program=str(program)))


@pytest.mark.long
def test_the_script_of_another_checkout_is_measured(tmp_path):
    for name in 'backstage', 'tools', 'stacked_lstm_shakespeare.py':
        (tmp_path / name).symlink_to(ROOT / name)
    code = f'import sys; sys.path.insert(0, {str(ROOT / "benchmarks")!r})\n'
    code += 'import steps; print(steps.script.__file__)'
    for environment, folder in ({}, ROOT), ({'CHECKOUT': str(tmp_path)}, tmp_path):
        output = shared.run('-c', code, program=(), env={**os.environ, **environment})
        assert output.strip() == str(folder / 'stacked_lstm_shakespeare.py')


def test_a_row_of_two_checkouts_has_rates_or_seconds_and_the_ratio_of_each_turn():
    row = against.as_row('what', [1.0, 2.0, 4.0], [2.0, 2.0, 4.0], 1000, '100')
    ratio = '1.000 (1.000 to 1.500)'
    assert row == ('what', '500 (375 to 750)', '500 (375 to 500)', ratio, '100')
    assert against.as_row('what', [1.0], [2.0])[1:4] == (
        '1.000 (1.000 to 1.000)', '2.000 (2.000 to 2.000)', '2.000 (2.000 to 2.000)'
    )  # fmt: skip
