"""Training: schedule, held-out loss, plot, and whole runs of the script as a user starts them."""

import json
import math
import re
import shutil
import signal
import subprocess

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
    start_script,
)
from runs import run_here, wait_for


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine_that_ends_after_the_last_iteration(
    settings,
):
    settings.learning_rate, settings.warmup_iterations = 0.01, 100
    rates = [script.learning_rate_at(i, 1099, settings) for i in range(1, 1100)]
    np.testing.assert_allclose(rates[:100], 0.01 * np.arange(1, 101) / 100)
    assert max(rates) == rates[99] == 0.01
    np.testing.assert_allclose(rates[100 + 500 - 1], 0.005)
    np.testing.assert_allclose(rates[100 + 250 - 1], 0.01 * (1 + math.sqrt(0.5)) / 2)
    assert np.all(np.diff(rates[99:]) < 0)
    assert rates[-1] == pytest.approx(0.005 * (1 + math.cos(math.pi * 0.999)))  # it trains too


@pytest.mark.parametrize(
    'arguments, highest',
    [
        ((), 0.03),
        (('--batch_size=10',), 0.03),
        (('--batch_size=200',), 0.03 * 2**0.5),
        (('--batch_size=400', '--training_seq_len=25'), 0.03 * 2**0.5),
        (('--training_seq_len=200',), 0.06),
        (('--batch_size=4000',), 0.06),
        (('--num_layers=2',), 0.03 * 1.5**0.5),
        (('--num_layers=1',), 0.03 * 3**0.5),
        (('--rnn_size=64',), 0.06),
        (('--rnn_size=64', '--num_layers=8'), 0.06),
        (('--rnn_size=64', '--num_layers=1'), 0.06 * 3**0.5),
        (('--rnn_size=16', '--batch_size=8'), 0.12),
        (('--num_layers=1', '--rnn_size=512'), 0.03 * 3**0.5),
        (('--rnn_size=1024',), 0.03),
        (('--num_layers=8',), 0.03),
        (('--rnn_size=64', '--batch_size=400'), 0.12),
        (('--rnn_size=64', '--batch_size=400', '--learning_rate=0.03'), 0.03),
        (('--training_seq_len=200', '--learning_rate=0.01'), 0.01),
        (('--batch_size=10', '--learning_rate=0.5'), 0.5),
    ],
)
def test_the_highest_rate_is_what_is_set_or_more_for_large_batches_and_small_models(
    arguments, highest
):
    settings = parse(*arguments)
    assert script.highest_rate(settings) == pytest.approx(highest)
    assert script.learning_rate_at(100, 1000, settings) == pytest.approx(highest)


def test_a_run_shorter_than_its_warm_up_has_a_rate_too(settings):
    settings.learning_rate, settings.warmup_iterations = 0.01, 100
    rates = [script.learning_rate_at(i, 10, settings) for i in range(1, 11)]
    np.testing.assert_allclose(rates, 0.0001 * np.arange(1, 11))
    settings.warmup_iterations = 0
    assert script.learning_rate_at(1, 10, settings) > 0


@pytest.mark.parametrize(
    'num_ids, split', [(1000, 900), (1003, 951), (1000, 998), (300, 1), (50, 10)]
)
def test_the_held_out_loss_is_the_mean_over_every_held_out_character(settings, num_ids, split):
    settings.rnn_size, settings.embedding_size = 6, 3
    settings.batch_size, settings.training_seq_len = 4, 10
    ids = np.random.RandomState(0).randint(9, size=num_ids)
    with tf.Graph().as_default(), tf.Session(config=machine.session_config()) as session:
        model, sampler = script.build_models(settings, 9)
        session.run(tf.global_variables_initializer())
        averages = {v.op.name: model.averages.average(v) for v in tf.trainable_variables()}
        for average in averages.values():
            average.load(2 * session.run(average), session)
        (loss,) = script.measure(session, sampler, [sampler.losses], ids, split, 4, 10)
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


def test_the_plot_shows_each_iteration_a_smoothed_curve_and_the_held_out_loss():
    figure = matplotlib.figure.Figure()
    losses = [3 / math.sqrt(i) for i in range(1, 301)]
    script.draw_losses(figure, losses, [(100, 0.5), (300, 0.3)])
    (axes,) = figure.axes
    assert axes.get_title() == 'Sequence to Sequence Loss'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('Generation', 'Loss')
    raw, smooth, held_out = axes.lines
    assert raw.get_xydata().tolist() == [[i + 1, loss] for i, loss in enumerate(losses)]
    assert smooth.get_xdata()[[0, -1]].tolist() == [1, 285]  # the middles of 1 and 270-300
    np.testing.assert_allclose(smooth.get_ydata()[-1], np.mean(losses[269:]))
    assert held_out.get_xydata().tolist() == [[100, 0.5], [300, 0.3]]
    assert len(axes.get_legend().get_texts()) == 3


@pytest.fixture
def short(settings, short_text, monkeypatch):
    """The settings of a run that trains in this process in a second or two."""
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    settings.text_file, settings.max_iterations = str(short_text), 40
    settings.rnn_size, settings.training_seq_len = 8, 10
    return settings


def train(settings):
    with folder.only_run_in(settings, script.__file__) as run_folder:
        return script.train(settings, running.Stop(), run_folder)


def test_the_graph_is_final_before_training_and_nothing_is_added_to_it(short, monkeypatch):
    sizes = []

    def save(run, session, *arguments, **more):
        assert session.graph.finalized
        sizes.append(len(session.graph.get_operations()))
        return real_save(run, session, *arguments, **more)

    real_save = saving.Run.save
    monkeypatch.setattr(saving.Run, 'save', save)
    short.max_iterations, short.save_every, short.eval_every = 20, 5, 4
    train(short)
    assert len(sizes) == 4 and len(set(sizes)) == 1 and sizes[0] > 100


def test_a_step_is_taken_at_the_rate_of_the_schedule(short, monkeypatch):
    monkeypatch.setattr(script, 'learning_rate_at', lambda *_: 0.0)
    run, status = train(short)
    assert (len(run.losses), status) == (40, 0)
    assert min(run.losses) > math.log(40) - 0.1


@pytest.fixture(scope='module')
def short_run(tmp_path_factory, works):
    """The folder and the output of a whole run of the script, two epochs on a short text."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    arguments = ('--text_file=short.txt', '--epochs=2', '--eval_every=100', '--save_every=150')
    status, output, errors = run_script(*SMALL, *arguments, cwd=folder)
    assert (status, errors) == (0, '')
    return folder, output


@pytest.mark.long
def test_the_commands_that_a_run_names_at_its_end_work_where_they_are_pasted(short_run, tmp_path):
    *_, first, second = short_run[1].splitlines()
    for line, begin, printed in (
        (first, 'To let it write: ', 'thou art more'),
        (second, 'What else can be done with it: ', 'What can be done with a trained model'),
    ):
        assert line.startswith(begin)
        result = subprocess.run(
            line[len(begin) :], shell=True, check=False, cwd=str(tmp_path), universal_newlines=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        status, output, errors = result.returncode, result.stdout, result.stderr
        assert (status, errors, output[: len(printed)]) == (0, '', printed)


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['--max_iterations=40'], ['#1 of 1']),
        (['--epochs=1'], ['#1 of 1']),
        (['--max_iterations=200', '--epochs=9'], ['#1 of 2', '#2 of 2']),
    ],
    ids=str,
)
def test_as_many_epochs_are_announced_as_are_begun(short_text, tmp_path, arguments, said):
    status, output, errors = run_here(*SMALL, f'--text_file={short_text}', *arguments, cwd=tmp_path)
    assert (status, errors) == (0, '')
    begun = [line for line in output.splitlines() if line.startswith('Starting Epoch')]
    assert begun == [f'Starting Epoch {what}.' for what in said]


@pytest.mark.long
@pytest.mark.parametrize('prime_texts', [['so', 'or', 'so', 'to'], ['So', 'to', 'so', 'so!']])
def test_samples_of_training_differ_by_their_prime_and_not_by_their_place(
    short, prime_texts, monkeypatch
):
    short.max_iterations, short.prime_texts = 2, prime_texts
    drawn = []

    def note(*arguments, **more):
        drawn.extend(sample_texts(*arguments, **more))
        return drawn

    sample_texts = script.sample_texts
    monkeypatch.setattr(script, 'sample_texts', note)
    train(short)
    first = dict(zip([text[:2].lower() for text in prime_texts[::-1]], drawn[::-1]))
    assert len({text[-60:] for text in drawn}) == len(drawn)
    short.prime_texts = ['to', 'so']
    drawn.clear()
    train(short)
    assert drawn == [first['to'], first['so']]


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


def test_a_run_leaves_its_model_vocabulary_settings_history_and_plot(short_run):
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


def test_the_newest_and_the_best_model_can_be_read_back_and_give_the_loss_they_had(
    short_run,
):
    folder, _ = short_run
    past = history(folder / 'temp')
    held_out = dict(past['held_out_losses'])
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
        losses, _ = lstm_losses(lstm, x, y.astype(int), np.zeros((3, 2, 1, 16)))
        # In one stream here, in eight there: equal but for the first characters of each.
        assert abs(losses[0, 12:].mean() - held_out[iteration]) < 0.02


def test_the_held_out_part_has_no_influence_on_training_and_runs_repeat_to_the_bit(
    tmp_path, short_text
):
    text = short_text.read_bytes()
    (tmp_path / 'other.txt').write_bytes(text[:-500] + text[-500:][::-1])
    histories = []
    for name, path in ('a', short_text), ('b', tmp_path / 'other.txt'):
        arguments = (f'--text_file={path}', f'--temp_dir={name}', '--epochs=1')
        status, _, errors = run_script(*SMALL, *arguments, cwd=tmp_path)
        assert (status, errors) == (0, '')
        histories.append(history(tmp_path / name))
    assert histories[0]['losses'] == histories[1]['losses']
    assert histories[0]['held_out_losses'] != histories[1]['held_out_losses']


@pytest.mark.long
def test_a_short_text_is_overfit(tmp_path):
    verse = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate. "
    (tmp_path / 'verse.txt').write_text(verse * 40)
    status, output, errors = run_script(
        '--text_file=verse.txt', '--rnn_size=48', '--batch_size=10', '--training_seq_len=25',
        '--epochs=60', '--log_every=100000', '--eval_every=100000', '--save_every=100000',
        '--prime_texts=shall i', '--temperature=0.5', cwd=tmp_path,
    )  # fmt: skip
    assert (status, errors) == (0, '')
    past = history(tmp_path / 'temp')
    assert np.mean(past['losses'][-10:]) < 0.05
    assert script.clean(verse * 5)[:400] in output


@pytest.mark.long
def test_a_model_of_characters_as_they_are_learns_and_prints_them(tmp_path):
    line = 'Кот, пёс & Käse!\n'
    (tmp_path / 'text.txt').write_text(line * 150, encoding='utf-8')
    status, output, errors = run_script(
        *SMALL, '--text_file=text.txt', '--clean_text=False', '--epochs=30', '--eval_every=100000',
        '--log_every=100000', '--prime_texts=Кот', '--temperature=0.5', cwd=tmp_path,
        PYTHONIOENCODING='utf-8',
    )  # fmt: skip
    assert (status, errors) == (0, '')
    assert f'Vocabulary Length = {len(set(line)) + 1}' in output
    assert line * 3 in output


def test_a_text_too_short_for_one_batch_is_refused_with_the_length_it_needs(tmp_path, short_text):
    text = 'to be or not to be ' * 50
    for length in (2, 100):
        (tmp_path / 'short.txt').write_text(text[:length])
        status, _, errors = run_script(*SMALL, '--text_file=short.txt', cwd=tmp_path)
        assert (status, errors.count('\n')) == (2, 1)
        assert '8 x 12' in errors
    needed = int(re.search(r'([\d,]+) are needed', errors).group(1).replace(',', ''))
    for length, status in (needed - 2, 2), (needed, 0):
        (tmp_path / 'short.txt').write_text(text[:length].rstrip().ljust(length, 'x'))
        assert run_script(*SMALL, '--text_file=short.txt', '--epochs=1', cwd=tmp_path)[0] == status


PATIENT = (
    *SMALL, '--text_file=text.txt', '--epochs=20', '--learning_rate=0.03', '--save_every=50',
    '--log_every=1',
)  # fmt: skip


@pytest.fixture(scope='module')
def stalled(tmp_path_factory, works):
    """A run on a text so short that the held-out loss soon gets worse; and what it printed."""
    folder = tmp_path_factory.mktemp('stalled')
    (folder / 'text.txt').write_bytes(works[2_000_000:2_004_000])
    status, output, errors = run_here(*PATIENT, '--patience=2', cwd=folder)
    assert (status, errors) == (0, '')
    return folder, output


def test_a_run_ends_where_so_many_saves_brought_no_better_held_out_loss(stalled):
    folder, output = stalled
    losses = [loss for _, loss in history(folder / 'temp')['held_out_losses']]
    assert 3 <= len(losses) < 740 / 50 and losses.index(min(losses)) == len(losses) - 3
    assert f'Ended after iteration {50 * len(losses)}: no better held-out loss in 2 saves' in output


@pytest.mark.long
def test_such_a_run_is_finished_and_a_higher_patience_goes_on(stalled, tmp_path):
    shutil.copytree(str(stalled[0]), str(tmp_path / 'run'))
    before = content(tmp_path / 'run' / 'temp')
    done = len(before[0]['losses'])
    for patience in 2, 1:
        output = run_here(*PATIENT, f'--patience={patience}', cwd=tmp_path / 'run')[1]
        assert f'finished, after {done} iterations. To train it further, set patience' in output
        assert content(tmp_path / 'run' / 'temp') == before
    how = (*PATIENT, '--patience=3', f'--max_iterations={done + 20}')
    assert f'Continuing after iteration {done}' in run_here(*how, cwd=tmp_path / 'run')[1]
    assert len(history(tmp_path / 'run' / 'temp')['losses']) == done + 20


def forget_last_loss(temp):
    """Let a run be as one that was stopped while its last held-out loss was measured."""
    lines = (temp / 'history.csv').read_text().splitlines()
    lines[-1] = lines[-1].rpartition(',')[0] + ','
    (temp / 'history.csv').write_text('\n'.join([*lines, '']))


def test_a_loss_that_is_made_up_for_ends_a_run_too(stalled, tmp_path):
    shutil.copytree(str(stalled[0]), str(tmp_path / 'run'))
    forget_last_loss(tmp_path / 'run' / 'temp')
    output = run_here(*PATIENT, '--patience=2', cwd=tmp_path / 'run')[1]
    assert 'Held-out loss' in output and 'Iteration:' not in output
    assert history(tmp_path / 'run' / 'temp') == history(stalled[0] / 'temp')


@pytest.mark.long
def test_a_stalled_run_that_was_given_more_and_stopped_is_not_finished(stalled, tmp_path):
    shutil.copytree(str(stalled[0]), str(tmp_path / 'run'))
    done = len(history(stalled[0] / 'temp')['losses'])
    more = (*PATIENT, '--patience=3', '--epochs=40')
    process = start_script(*more, cwd=tmp_path / 'run')
    wait_for(process, f'Iteration: {done + 5},')
    process.send_signal(signal.SIGINT)
    assert 'The same command goes on' in process.communicate()[0]
    output = run_here(*more, f'--max_iterations={done + 30}', cwd=tmp_path / 'run')[1]
    assert 'Continuing after iteration' in output
    assert len(history(tmp_path / 'run' / 'temp')['losses']) == done + 30


@pytest.mark.long
def test_a_run_that_stalled_at_its_very_end_is_told_what_trains_it_further(stalled, tmp_path):
    shutil.copytree(str(stalled[0]), str(tmp_path / 'run'))
    done = len(history(stalled[0] / 'temp')['losses'])
    how = (*PATIENT, f'--max_iterations={done}')
    for patience, more in (2, ' and patience above 2 (or 0)'), (3, ''):
        output = run_here(*how, f'--patience={patience}', cwd=tmp_path / 'run')[1]
        assert f'To train it further, set max_iterations above {done}{more}; to train a n' in output
    output = run_here(*how, '--patience=3', '--weight_decay=0', cwd=tmp_path / 'run')[1]
    assert output.startswith('A new run begins: weight_decay is 0')


@pytest.mark.long
def test_patience_and_a_checkpoint_on_demand_keep_the_bits_of_a_run_that_is_continued(
    stalled, tmp_path
):
    (tmp_path / 'text.txt').write_bytes((stalled[0] / 'text.txt').read_bytes())
    for number, status in (signal.SIGUSR1, -signal.SIGKILL), (signal.SIGINT, 130):
        process = start_script(*PATIENT, '--patience=2', cwd=tmp_path)
        wait_for(process, 'Held-out loss')
        wait_for(process, 'Iteration')
        process.send_signal(number)
        if number == signal.SIGUSR1:
            wait_for(process, 'Saved at iteration')
            process.kill()
        process.communicate()
        assert process.returncode == status
    assert run_here(*PATIENT, '--patience=2', cwd=tmp_path)[::2] == (0, '')
    assert content(tmp_path / 'temp') == content(stalled[0] / 'temp')


def test_the_averages_follow_the_weights_slower_the_longer_the_run(settings):
    settings.rnn_size, settings.batch_size, settings.training_seq_len = 4, 2, 5
    ids = np.random.RandomState(0).randint(9, size=(2, 6))
    with tf.Graph().as_default(), tf.Session() as session:
        model, _ = script.build_models(settings, 9)
        session.run(tf.global_variables_initializer())
        expected = session.run(model.W)
        feed = {
            model.x_data: ids[:, :-1],
            model.y_output: ids[:, 1:],
            model.initial_state: model.zero_state(2),
            model.learning_rate: 0.1,
        }
        for step in range(1, 31):
            session.run(model.train_op, feed)
            decay = min(settings.average_decay, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * session.run(model.W)
        np.testing.assert_allclose(session.run(model.averages.average(model.W)), expected, 1e-5)
