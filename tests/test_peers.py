"""benchmarks/: the script beside PyTorch and JAX, and beside another checkout.

`make peers` itself compares the models of PyTorch and JAX before it measures.
"""

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


def measured(memory, *seconds):
    """Return a stand-in for a turns.Stepper after its turns."""
    return types.SimpleNamespace(seconds=seconds, median=np.median(seconds), memory=memory)


MEASURED = {  # what peers.measure returns: MB, and seconds per step of each turn
    'the script, TensorFlow 1.15': measured(300, 2.0, 2.0),
    'the script, TensorFlow 2': measured(900, 1.6, 1.6),
    'PyTorch, `nn.LSTM`': measured(1000, 5.0, 5.0),
    'PyTorch, `nn.LSTM`, `torch.compile`': measured(1100, 3.0, 5.0),
    'JAX, `scan`': measured(500, 8.0, 8.0),
    'a product, TensorFlow 1.15': measured(1, 0.2),
    'a product, TensorFlow 2': measured(1, 0.1),
    'a product, PyTorch': measured(1, 0.4),
}


def cells(line):
    return line.strip('| ').split(' | ')


@pytest.mark.parametrize('shape', shared.SHAPES, ids=' '.join)
def test_each_model_has_the_shapes_of_the_script(shape, monkeypatch, capsys):
    def begin(settings, weights, batches):
        x, y = next(batches)
        np.testing.assert_array_equal(x[1:], y[:-1])
        found.update(vars(settings), x=x.shape, kernel=weights['lstm.weight_hh_l0'].shape)
        while True:
            print('no answer')
            yield 1.0

    found = {}
    monkeypatch.setattr(sys, 'argv', ['peer.py', 'kind', *shape])
    monkeypatch.setattr(sys, 'stdin', ['2\n', '1\n'])
    monkeypatch.setattr(sys, 'stdout', sys.stdout)  # `serve` replaces it
    peer.main({'kind': begin})
    assert peer.VOCAB_SIZE == 40 and script.max_gradient_norm == peer.MAX_GRADIENT_NORM
    settings = parse(*shape)
    own = {name: getattr(settings, name) for name in peer.SHAPE}
    batch, n = (settings.training_seq_len, settings.batch_size), settings.rnn_size
    assert found == {**own, 'x': batch, 'kernel': (4 * n, n)}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # the first says that it is ready
    for seconds, megabytes in map(str.split, lines):
        assert 0 <= float(seconds) < 1 and float(megabytes) > 10


def test_the_script_is_compared_with_the_fastest_turn_by_turn():
    shape = '--rnn_size=512', '--batch_size=10'
    *_, row = peers.summary({shape: MEASURED}).splitlines()
    assert cells(row) == [
        '--rnn_size=512 --batch_size=10', '2.00 (1.75 to 2.25)', '4.00 (4.00 to 4.00)',
        '2.50 (2.19 to 2.81)', '5.00 (5.00 to 5.00)',
    ]  # fmt: skip
    head, _, *rows = map(cells, peers.details(shape, MEASURED).splitlines())
    assert {len(row) for row in rows} == {len(head)}
    step = shared.multiplications(parse(*shape)) / 2.0 / 1e9
    share = f'{step:,.0f}, {step / 171.8:.0%}'  # 2 * 2048**3 / 0.1 is 171.8e9
    assert rows[0][1:] == ['250 (250 to 250)', '1.00 (1.00 to 1.00)', share, '300']
    assert rows[2][1:3] == ['100 (100 to 100)', '2.50 (2.50 to 2.50)']
    assert [row[3] for row in rows[-3:]] == ['86, 50%', '172, 100%', '43, 25%']


def test_models_that_learn_differently_are_not_measured(tmp_path):
    def program(name, first, last):
        (tmp_path / name).write_text(f'print({first}, {last})\n')
        return sys.executable, str(tmp_path / name)

    one = program('one.py', 3.6, 3.5)
    peers.check([one, program('same.py', 3.60004, 3.5004)])
    for losses in (3.6, 3.5006), (3.60006, 3.5):
        with pytest.raises(RuntimeError, match='learn differently'):
            peers.check([one, program('other.py', *losses)])


def test_each_process_takes_as_many_steps_in_a_turn_as_fill_the_time(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        f'import os, sys, time\nsys.path.insert(0, {str(ROOT / "benchmarks")!r})\n'
        'from turns import serve\n'
        'def steps():\n    while True:\n        yield print("no answer")\n'
        '        time.sleep(float(os.environ["PACE"]))\n'
        'serve(steps())\n'
    )
    paces = 0.05, 0.01
    steppers = [turns.Stepper('sleep', program=str(program), PACE=str(pace)) for pace in paces]
    for stepper, pace in zip(turns.take_turns(3, *steppers, seconds=0.1), paces):
        assert stepper.process.returncode == 0 and len(stepper.seconds) == 3
        assert pace <= stepper.median < 10 * pace
        assert 1 < stepper.memory_at_start <= stepper.memory < 10_000  # includes its parent's


@pytest.mark.parametrize('how', ['at once', 'in a step', 'between steps'])
def test_a_process_that_ends_early_says_why(how, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        f'import os, sys, threading, time\nsys.path.insert(0, {str(ROOT / "benchmarks")!r})\n'
        'from turns import serve\n'
        'def end(): time.sleep(0.2); print("no luck", file=sys.stderr, flush=True); os._exit(7)\n'
        'def steps():\n    yield\n    yield\n    end()\n'
        'if sys.argv[1] == "at once": end()\n'
        'if sys.argv[1] == "between steps": threading.Thread(target=end).start()\n'
        'serve(steps())\n'
    )
    stepper = turns.Stepper(how, program=str(program))
    with pytest.raises(RuntimeError, match='ended early, status 7: no luck'):
        stepper.run(1)
        if how == 'between steps':
            stepper.process.wait()
        stepper.run(1)


@pytest.mark.long
def test_the_script_of_another_checkout_is_measured(tmp_path):
    for name in 'backstage', 'tools', 'stacked_lstm_shakespeare.py':
        (tmp_path / name).symlink_to(ROOT / name)
    code = 'import steps; print(steps.script.__file__)'
    for checkout in ROOT, tmp_path:
        how = {'env': {**os.environ, 'CHECKOUT': str(checkout)}, 'cwd': str(ROOT / 'benchmarks')}
        output = shared.run('-c', code, program=(), **how)
        assert output.strip() == str(checkout / 'stacked_lstm_shakespeare.py')


def test_a_row_of_two_checkouts_has_rates_or_seconds_and_their_ratio():
    row = against.as_row('what', [1.0, 2.0, 4.0], [2.0, 2.0, 4.0], 1000, '100')
    ratio = '1.000 (1.000 to 1.500)'
    assert row == ('what', '500 (375 to 750)', '500 (375 to 500)', ratio, '100')
    assert against.as_row('what', [1.0], [2.0])[1] == '1.000 (1.000 to 1.000)'
