"""Training: schedule, held-out loss, plot, and whole runs of the script."""

import argparse
import json
import math
import re
import shutil

from backstage import folder, machine, running, saving, tf

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
from conftest import (
    SMALL,
    content,
    encode,
    history,
    lstm_losses,
    parse,
    read_lstm,
    run_script,
    script,
)
from runs import run_here

pytestmark = pytest.mark.xdist_group('training')


def test_the_learning_rate_rises_linearly_and_falls_in_a_cosine(settings):
    settings.learning_rate, settings.warmup_iterations = 0.01, 100
    rates = [script.learning_rate_at(i, 1099, settings) for i in range(1, 1100)]
    np.testing.assert_allclose(rates[:100], 0.01 * np.arange(1, 101) / 100)
    assert max(rates) == rates[99] == 0.01
    np.testing.assert_allclose(rates[100 + 500 - 1], 0.005)
    np.testing.assert_allclose(rates[100 + 250 - 1], 0.01 * (1 + math.sqrt(0.5)) / 2)
    assert np.all(np.diff(rates[99:]) < 0)
    assert rates[-1] == pytest.approx(
        0.005 * (1 + math.cos(math.pi * 0.999))
    )  # the last iteration trains too
    assert script.learning_rate_at(5, 10, settings) == 0.0005  # a run shorter than its warm-up
    settings.warmup_iterations = 0
    assert script.learning_rate_at(1, 10, settings) > 0


@pytest.mark.parametrize(
    'arguments, highest',
    [
        ('', 0.03),
        ('--batch_size=10', 0.03),
        ('--batch_size=400 --training_seq_len=25', 0.03 * 2**0.5),
        ('--batch_size=4000', 0.06),
        ('--num_layers=8 --rnn_size=1024', 0.03),
        ('--rnn_size=64 --num_layers=1', 0.06 * 3**0.5),
        ('--rnn_size=16 --batch_size=400', 0.12),
        ('--batch_size=10 --learning_rate=0.5', 0.5),
    ],
)
def test_the_highest_rate_is_as_set_or_depends_on_batch_and_model_size(arguments, highest):
    settings = parse(*arguments.split())
    assert script.learning_rate_at(100, 1000, settings) == pytest.approx(highest)


@pytest.fixture(scope='module')
def models():
    """A training model, one with its averaged weights, and a session."""
    settings = parse('--rnn_size=6', '--embedding_size=3', '--batch_size=4', '--clean_text=False')
    settings.training_seq_len = 10
    with tf.Graph().as_default(), tf.Session(config=machine.session_config()) as session:
        model, sampler = script.build_models(settings, 9)
        session.run(tf.global_variables_initializer())
        yield argparse.Namespace(settings=settings, model=model, sampler=sampler, session=session)


@pytest.mark.parametrize(
    'num_ids, split', [(1000, 900), (1003, 951), (1000, 998), (300, 1), (50, 10)]
)
def test_the_held_out_loss_is_the_mean_over_every_held_out_character(models, num_ids, split):
    ids = np.random.RandomState(0).randint(9, size=num_ids)
    session = models.session
    averages = {v.op.name: models.model.averages.average(v) for v in tf.trainable_variables()}
    for name, average in averages.items():
        size = average.shape.as_list()
        average.load(np.random.RandomState(len(name)).normal(size=size), session)
    (loss,) = script.measure(session, models.sampler, [models.sampler.losses], ids, split, 4, 10)
    lstm = read_lstm({name: session.run(average) for name, average in averages.items()})
    # The same in NumPy, stream after stream: ten characters to warm up, then those that count.
    total, per_stream = 0, -(-(num_ids - split) // 4)
    for start in range(split, num_ids, per_stream):
        end = min(start + per_stream, num_ids)
        warm_up = 10 if start > 10 else 0
        first = max(start - 1 - warm_up, 0)
        x, y = ids[None, first : end - 1], ids[None, first + 1 : end]
        losses, _ = lstm_losses(lstm, x, y, np.zeros((3, 2, 1, 6)))
        total += losses[0, start - 1 - first :].sum()
    np.testing.assert_allclose(loss, total / (num_ids - split), rtol=1e-5)


def test_the_averages_follow_the_weights_more_slowly_as_a_run_gets_longer(models):
    model, session = models.model, models.session
    session.run(tf.global_variables_initializer())
    expected = session.run(model.W)
    ids = np.random.RandomState(0).randint(9, size=(4, 11))
    feed = {
        model.x_data: ids[:, :-1],
        model.y_output: ids[:, 1:],
        model.initial_state: model.zero_state(4),
        model.learning_rate: 0.1,
    }
    for step in range(1, 31):
        session.run(model.train_op, feed)
        decay = min(models.settings.average_decay, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * session.run(model.W)
    np.testing.assert_allclose(session.run(model.averages.average(model.W)), expected, 1e-5)


def test_samples_depend_on_their_prime_text_and_not_on_its_position(models):
    models.session.run(tf.global_variables_initializer())

    def drawn(*prime_texts):
        settings = argparse.Namespace(**{**vars(models.settings), 'prime_texts': prime_texts})
        ix2vocab = [script.UNKNOWN, *'so rtiax']
        stop = running.Stop()
        return script.sample_texts(models.session, models.sampler, ix2vocab, 7, settings, stop)

    texts = drawn('so', 'or', 'so', 'to', 'it', 'it')
    assert len({text[-60:] for text in texts}) == len(texts) == 6
    assert drawn('to', 'so') == [texts[3], texts[0]]


def test_the_plot_has_all_losses_a_smoothed_curve_and_held_out_losses():
    figure = matplotlib.figure.Figure()
    losses = [3 / math.sqrt(i) for i in range(1, 301)]
    script.draw_losses(figure, losses, [(100, 0.5), (300, 0.3)])
    (axes,) = figure.axes
    assert axes.get_title() == 'Sequence to Sequence Loss'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('Generation', 'Loss')
    raw, smooth, held_out = axes.lines
    assert raw.get_xydata().tolist() == [[i + 1, loss] for i, loss in enumerate(losses)]
    assert smooth.get_xdata()[[0, -1]].tolist() == [1, 285]  # the middles of 1 and of 270 to 300
    np.testing.assert_allclose(smooth.get_ydata()[-1], np.mean(losses[269:]))
    assert held_out.get_xydata().tolist() == [[100, 0.5], [300, 0.3]]
    assert len(axes.get_legend().get_texts()) == 3


def test_training_uses_the_scheduled_rate_and_adds_nothing_to_the_graph(
    settings, short_text, monkeypatch, capsys
):
    save, sizes, read_batch, kinds = saving.Run.save, [], script.read_batch, set()

    def read(ids, *more):
        kinds.add(type(ids))
        return read_batch(ids, *more)

    def note(run, session, *arguments, **more):
        assert session.graph.finalized
        sizes.append(len(session.graph.get_operations()))
        return save(run, session, *arguments, **more)

    monkeypatch.setenv('MPLBACKEND', 'Agg')
    monkeypatch.setattr(saving.Run, 'save', note)
    monkeypatch.setattr(script, 'read_batch', read)
    monkeypatch.setattr(script, 'learning_rate_at', lambda *_: 0.0)
    settings.text_file, settings.rnn_size, settings.training_seq_len = str(short_text), 8, 5
    settings.max_iterations, settings.save_every, settings.eval_every = 20, 5, 4
    with running.Stop() as stop, folder.only_run_in(settings, script.__file__) as run_folder:
        run, status = script.train(settings, stop, run_folder)
    assert (len(run.losses), status) == (20, 0)
    assert min(run.losses) > math.log(40) - 0.1
    assert kinds == {np.memmap}  # the ids stay on the disk
    assert len(sizes) == 4 and len(set(sizes)) == 1 and sizes[0] > 100
    assert 'Starting Epoch #1 of 1.\n' in capsys.readouterr().out


# --- Whole runs of the script --------------------------------------------------------------------

SHORT = (*SMALL, '--num_layers=2', '--epochs=2', '--eval_every=100', '--save_every=150')


@pytest.fixture(scope='module')
def short_run(tmp_path_factory, works):
    """The folder and the output of a whole run of the script, two epochs on a short text."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    status, output, errors = run_script(*SHORT, '--text_file=short.txt', cwd=folder)
    assert (status, errors) == (0, '')
    return folder, output


def test_a_run_prints_the_lines_of_the_recipe(short_run):
    lines = short_run[1].split('\n')
    assert 'Building Shakespeare Vocab by Characters' in lines
    assert 'Vocabulary Length = 40' in lines
    assert lines.index('Starting Epoch #1 of 2.') < lines.index('Starting Epoch #2 of 2.')
    pattern = r'Iteration: (\d+), Epoch: (\d), Batch: (\d+) out of (\d+), Loss: \d\.\d\d$'
    found = [
        tuple(map(int, match.groups())) for match in map(re.compile(pattern).match, lines) if match
    ]
    num_batches = found[0][3]
    assert [iteration for iteration, *_ in found] == list(range(10, 2 * num_batches + 1, 10))
    for iteration, epoch, batch, _ in found:
        assert iteration == (epoch - 1) * num_batches + batch
        assert 1 <= batch <= num_batches


def test_a_run_prints_samples_that_continue_the_prime_texts(short_run):
    lines = short_run[1].split('\n')
    for prime_text in ('thou art more', 'to be or not to', 'wherefore art thou'):
        samples = [line for line in lines if line.startswith(prime_text)]
        assert {len(sample) - len(prime_text) for sample in samples} == {100, 400}
        assert len(set(samples)) == len(samples)


def test_a_run_writes_its_model_vocabulary_settings_history_and_plot(short_run):
    temp = short_run[0] / 'temp'
    assert json.loads((temp / 'vocabulary.json').read_text()) == ['unknown', *script.CHARACTERS]
    assert json.loads((temp / 'settings.json').read_text())['rnn_size'] == 16
    past = history(temp)
    saved = [iteration for iteration, _ in past['held_out_losses']]
    num_iterations = len(past['losses'])
    assert saved == [*range(150, num_iterations, 150), num_iterations]
    assert past['losses'][-1] < past['losses'][0] - 0.5
    height, width, _ = matplotlib.image.imread(str(temp / 'loss.png')).shape
    assert (width, height) == (960, 600)
    assert not list(temp.glob('**/*.part'))


def test_the_newest_and_the_best_model_reproduce_their_held_out_loss(short_run):
    folder, _ = short_run
    held_out = dict(history(folder / 'temp')['held_out_losses'])
    expected = {'': max(held_out), 'best': min(held_out, key=held_out.get)}
    ids = encode(folder / 'short.txt', True, ['unknown', *script.CHARACTERS])
    split = int(len(ids) * 0.95)
    for kind, iteration in expected.items():
        path = tf.train.latest_checkpoint(str(folder / 'temp' / kind))
        assert path.endswith(f'model-{iteration}')
        reader = tf.train.load_checkpoint(path)
        suffix = '/ExponentialMovingAverage'
        names = [n for n in reader.get_variable_to_shape_map() if n.endswith(suffix)]
        lstm = read_lstm({name[: -len(suffix)]: reader.get_tensor(name) for name in names})
        x, y = ids[None, split - 13 : -1], ids[None, split - 12 :]
        losses, _ = lstm_losses(lstm, x, y.astype(int), np.zeros((2, 2, 1, 16)))
        # One stream here, and eight in the run: only the first characters of each stream differ.
        assert abs(losses[0, 12:].mean() - held_out[iteration]) < 0.02


def test_held_out_text_does_not_affect_training_and_runs_are_reproducible(short_run, tmp_path):
    text = (short_run[0] / 'short.txt').read_bytes()
    (tmp_path / 'other.txt').write_bytes(text[:-500] + text[-500:][::-1])
    assert run_here(*SHORT, '--text_file=other.txt', cwd=tmp_path)[::2] == (0, '')
    one, other = history(short_run[0] / 'temp'), history(tmp_path / 'temp')
    assert one['losses'] == other['losses']
    assert one['held_out_losses'] != other['held_out_losses']


@pytest.mark.long
def test_training_can_overfit_a_short_text(tmp_path):
    verse = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate. "
    (tmp_path / 'verse.txt').write_text(verse * 40)
    status, output, errors = run_script(
        '--text_file=verse.txt', '--rnn_size=48', '--batch_size=10', '--training_seq_len=25',
        '--epochs=60', '--log_every=100000', '--eval_every=100000', '--save_every=100000',
        '--prime_texts=shall i', '--temperature=0.5', cwd=tmp_path,
    )  # fmt: skip
    assert (status, errors) == (0, '')
    assert np.mean(history(tmp_path / 'temp')['losses'][-10:]) < 0.05
    assert script.clean(verse * 5)[:400] in output


# --- Patience ------------------------------------------------------------------------------------

PATIENT = (
    *SMALL, '--num_layers=1', '--batch_size=24', '--training_seq_len=4', '--text_file=text.txt',
    '--epochs=20', '--learning_rate=0.03', '--save_every=50', '--log_every=1',
)  # fmt: skip


@pytest.fixture(scope='module')
def stalled(tmp_path_factory, works):
    """The folder and the output of a run whose text is so short that it soon overfits."""
    folder = tmp_path_factory.mktemp('stalled')
    (folder / 'text.txt').write_bytes(works[2_000_000:2_004_000])
    status, output, errors = run_here(*PATIENT, '--patience=2', cwd=folder)
    assert (status, errors) == (0, '')
    return folder, output


def test_a_run_ends_after_patience_saves_without_a_better_held_out_loss(stalled):
    folder, output = stalled
    losses = [loss for _, loss in history(folder / 'temp')['held_out_losses']]
    assert 3 <= len(losses) < 740 / 50 and losses.index(min(losses)) == len(losses) - 3
    assert f'Ended after iteration {50 * len(losses)}: no better held-out loss in 2 saves' in output


@pytest.mark.long
def test_a_run_that_patience_ended_resumes_with_more_patience(stalled, tmp_path):
    shutil.copytree(str(stalled[0]), str(tmp_path / 'run'))
    before = content(tmp_path / 'run' / 'temp')
    done = len(before[0]['losses'])
    (tmp_path / 'run' / 'temp' / 'loss.png').unlink()
    output = run_here(*PATIENT, '--patience=1', '--prime_texts=so', cwd=tmp_path / 'run')[1]
    assert f'finished after {done} iterations. To train it further, set patience' in output
    assert any(line.startswith('so') for line in output.splitlines())
    assert content(tmp_path / 'run' / 'temp') == before
    assert (tmp_path / 'run' / 'temp' / 'loss.png').exists()
    how = (*PATIENT, '--patience=3', f'--max_iterations={done + 20}')
    assert f'Resuming after iteration {done}' in run_here(*how, cwd=tmp_path / 'run')[1]
    assert len(history(tmp_path / 'run' / 'temp')['losses']) == done + 20


def test_a_last_held_out_loss_missed_in_a_stop_is_measured_and_ends_the_run(stalled, tmp_path):
    shutil.copytree(str(stalled[0]), str(tmp_path / 'run'))
    path = tmp_path / 'run' / 'temp' / 'history.csv'
    path.write_text(path.read_text().rstrip('\n').rpartition(',')[0] + ',\n')
    output = run_here(*PATIENT, '--patience=2', cwd=tmp_path / 'run')[1]
    assert 'Held-out loss' in output and 'Iteration:' not in output
    assert history(path.parent) == history(stalled[0] / 'temp')
