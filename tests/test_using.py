"""With a trained model: samples, evaluation, heat map, export and plot, each as a process."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import (
    SMALL,
    encode,
    log_softmax,
    lstm_logits,
    lstm_losses,
    read_lstm,
    run_script,
    script,
    start_script,
)

tf = script.tf

IX2VOCAB = [script.UNKNOWN, *script.CHARACTERS]


@pytest.fixture(scope='module')
def trained(tmp_path_factory, works):
    """The folder of a small trained model; its text is not there any more."""
    folder = tmp_path_factory.mktemp('trained')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    arguments = (*SMALL, '--text_file=short.txt', '--epochs=4', '--save_every=200')
    assert run_script(*arguments, cwd=folder)[::2] == (0, '')
    (folder / 'short.txt').rename(folder / 'moved.txt')
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the folder of the trained model, to be damaged."""
    shutil.copytree(str(trained), str(tmp_path / 'copy'))
    return tmp_path / 'copy'


def use(folder, *arguments, **more):
    """Run the script on a trained model; return what it printed."""
    status, output, errors = run_script(*arguments, cwd=folder, **more)
    assert (status, errors) == (0, '')
    return output


def best_lstm(folder):
    """Return the best model in the folder of a run, as a NumPy LSTM."""
    return averages(tf.train.latest_checkpoint(str(folder / 'temp' / 'best')))


def averages(path):
    reader = tf.train.load_checkpoint(path)
    suffix = '/ExponentialMovingAverage'
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith(suffix)]
    return read_lstm({name[: -len(suffix)]: reader.get_tensor(name) for name in names})


def likeliest(lstm, prime, length):
    """Return how a text goes on if always the likeliest character follows, from NumPy."""
    ids = script.encode_prime(prime, IX2VOCAB, True)
    for _ in range(length):
        logits, _ = lstm_logits(lstm, ids, np.zeros((3, 2, 1, 16)))
        ids = np.append(ids, logits[:, -1:].argmax(axis=2), axis=1)
    return script.decode(ids[0], IX2VOCAB)


def test_at_temperature_0_a_sample_is_the_likeliest_text_and_nothing_else_is_printed(trained):
    arguments = ('--sample', '--prime_text=The king', '--sample_length=45', '--temperature=0')
    assert use(trained, *arguments) == likeliest(best_lstm(trained), 'the king', 45) + '\n'


def test_samples_differ_from_each_other_and_repeat_with_the_seed(trained):
    arguments = ('--sample', '--prime_text=so', '--num_samples=3', '--seed=5')
    first, again = use(trained, *arguments), use(trained, *arguments)
    lines = first.splitlines()
    assert len(set(lines)) == 3
    assert [len(line) for line in lines] == [102] * 3
    assert all(line.startswith('so') for line in lines)
    assert again == first
    assert use(trained, *arguments[:-1], '--seed=6') != first


def test_without_a_prime_text_and_a_terminal_a_sample_begins_as_those_of_training(trained):
    assert use(trained, '--sample').startswith('thou art more')


def test_a_sample_begins_as_those_of_its_own_run(copy):
    path = copy / 'temp' / 'settings.json'
    record = json.loads(path.read_text())
    record['prime_texts'] = ['my lord of']
    path.write_text(json.dumps(record))
    assert use(copy, '--sample').startswith('my lord of')


def test_in_a_terminal_one_prime_text_after_the_other_is_asked_for(trained):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, script.__file__, '--sample', '--temperature=0', '--sample_length=30'],
        cwd=str(trained), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    output = b''
    for prime in (b'the king\n', b'\n', b'a lady\n', b'\x04'):
        while not output.endswith(b'ends): '):
            output += os.read(ours, 1000)
        output += b' '
        os.write(ours, prime)
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b''
    lstm = best_lstm(trained)
    for prime in ('the king', 'a lady'):
        assert likeliest(lstm, prime, 30).encode() in output
    assert b'has no character to begin with' in output


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(trained):
    process = start_script('--sample', '--sample_length=100000', cwd=trained)
    process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(timeout=60)
    assert errors == ''


def test_a_sample_can_be_drawn_while_the_model_is_being_trained(trained, tmp_path):
    shutil.copy(str(trained / 'moved.txt'), str(tmp_path / 'short.txt'))
    arguments = (*SMALL, '--text_file=short.txt', '--epochs=1000', '--save_every=5')
    training = start_script(*arguments, cwd=tmp_path)
    try:
        while not (tmp_path / 'temp' / 'checkpoint').exists():
            assert training.poll() is None
        for _ in range(3):
            assert use(tmp_path, '--sample', '--prime_text=so').startswith('so')
        assert training.poll() is None
    finally:
        training.send_signal(signal.SIGKILL)
        training.communicate()


def test_another_checkpoint_can_be_chosen(trained):
    newest = tf.train.latest_checkpoint(str(trained / 'temp'))
    arguments = ('--sample', '--prime_text=the king', '--temperature=0', '--sample_length=40')
    for ending in '', '.index':
        name = os.path.relpath(newest, str(trained)) + ending
        expected = likeliest(averages(newest), 'the king', 40) + '\n'
        assert use(trained, *arguments, f'--checkpoint={name}') == expected


def test_where_the_best_model_is_damaged_the_newest_is_used_and_that_is_told(copy):
    best = tf.train.latest_checkpoint(str(copy / 'temp' / 'best'))
    os.truncate(f'{best}.data-00000-of-00001', 10)
    arguments = ('--sample', '--prime_text=the king', '--temperature=0', '--sample_length=40')
    status, output, errors = run_script(*arguments, cwd=copy)
    newest = tf.train.latest_checkpoint(str(copy / 'temp'))
    assert (status, output) == (0, likeliest(averages(newest), 'the king', 40) + '\n')
    assert errors.count('\n') == 1
    assert 'cannot be used' in errors and f'Using {os.path.relpath(newest, str(copy))}' in errors


def test_where_no_model_can_be_read_one_sentence_says_so(copy):
    for path in (copy / 'temp').rglob('*.data-*'):
        os.truncate(str(path), 10)
    status, output, errors = run_script('--sample', cwd=copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert 'cannot be used' in errors


def test_a_model_that_training_replaces_while_it_is_read_is_looked_for_again(settings, monkeypatch):
    """The checkpoint that was found first is gone when it is to be restored; another is there."""
    settings.temp_dir = settings.temp_dir + '/run'
    os.makedirs(settings.temp_dir)
    first, second = f'{settings.temp_dir}/model-1', f'{settings.temp_dir}/model-2'
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable('v', initializer=7.0)
        saver = tf.train.Saver()
        session.run(variable.initializer)
        saver.save(session, first, write_meta_graph=False)
        restore = saver.restore

        def restore_late(session, path):
            if path == first:
                for name in os.listdir(settings.temp_dir):
                    os.rename(
                        f'{settings.temp_dir}/{name}',
                        f'{settings.temp_dir}/{name.replace("model-1", "model-2")}',
                    )
            return restore(session, path)

        monkeypatch.setattr(saver, 'restore', restore_late)
        variable.load(0.0, session)
        assert script.restore_model(session, saver, settings) == second
        assert session.run(variable) == 7.0


@pytest.mark.parametrize(
    'name, content, words',
    [
        ('settings', '[]', 'temp/settings.json cannot be read: it is damaged'),
        ('settings', '{"seed": 1}', 'the settings in temp are damaged. Train anew'),
        ('vocabulary', '{}', 'temp/vocabulary.json cannot be read: it is damaged'),
        ('vocabulary', '[1]', 'the vocabulary in temp is damaged'),
        ('vocabulary', '["a", ', 'temp/vocabulary.json cannot be read: it is damaged'),
    ],
)
def test_damaged_notes_of_a_model_are_told(copy, name, content, words):
    (copy / 'temp' / f'{name}.json').write_text(content)
    status, output, errors = run_script('--sample', cwd=copy)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert words in errors


def test_a_damaged_history_is_told(copy):
    (copy / 'temp' / 'history.json').write_text('{"losses": [1]}')
    status, _, errors = run_script('--plot', cwd=copy)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'the history in temp is damaged' in errors


def test_a_text_that_has_changed_since_is_not_taken_for_the_one_that_was_learned(copy):
    text = (copy / 'moved.txt').read_text()
    (copy / 'short.txt').write_text(text + 'and more')
    status, _, errors = run_script('--evaluate', cwd=copy)
    assert (status, errors.count('\n')) == (2, 1)
    assert 'short.txt is not the text that the model' in errors


def test_ctrl_c_while_sampling_ends_in_one_word(trained):
    process = start_script('--sample', '--sample_length=1000000', cwd=trained)
    process.stdout.read(100)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, 'stacked_lstm_shakespeare.py: stopped.\n')


@pytest.mark.parametrize(
    'error, words',
    [
        (MemoryError(), 'memory is full; lower rnn_size'),
        (tf.errors.ResourceExhaustedError(None, None, 'OOM'), 'memory is full; lower rnn_size'),
        (
            tf.errors.InternalError(None, None, 'no cuDNN\nin node X'),
            'TensorFlow failed: no cuDNN.',
        ),
    ],
)
def test_what_tensorflow_cannot_do_is_told_in_one_sentence(error, words, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(script, 'run', fail)
    monkeypatch.setattr(sys.stdout, 'reconfigure', lambda **_: None, raising=False)
    assert script.main([]) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and words in said


def figures(output):
    """Return the loss and the accuracy that --evaluate printed."""
    loss = re.search(r'Loss: ([\d.]+) nats', output).group(1)
    accuracy = re.search(r'Accuracy: ([\d.]+)%', output).group(1)
    return float(loss), float(accuracy) / 100


def test_the_whole_of_another_text_is_evaluated_in_one_stream_if_asked(trained, tmp_path):
    text = (trained / 'moved.txt').read_bytes()[5000:6000]
    (tmp_path / 'other.txt').write_bytes(text)
    output = use(trained, '--evaluate', f'--text_file={tmp_path}/other.txt', '--batch_size=1')
    ids = encode(tmp_path / 'other.txt', True, IX2VOCAB)[None].astype(int)
    lstm, state = best_lstm(trained), np.zeros((3, 2, 1, 16))
    losses, _ = lstm_losses(lstm, ids[:, :-1], ids[:, 1:], state)
    logits, _ = lstm_logits(lstm, ids[:, :-1], state)
    loss, accuracy = figures(output)
    assert abs(loss - losses.mean()) < 1e-4
    assert abs(accuracy - (logits.argmax(axis=2) == ids[:, 1:]).mean()) < 1e-4
    assert f'Characters: {ids.size - 1:,}, all of' in output
    assert f'{loss / np.log(2):.2f}'[:-1] in output.split('nats, ')[1]


def test_without_a_text_the_held_out_part_is_evaluated_as_in_training(trained):
    with pytest.raises(AssertionError):  # the text has gone
        use(trained, '--evaluate')
    (trained / 'moved.txt').rename(trained / 'short.txt')
    try:
        history = json.loads((trained / 'temp' / 'history.json').read_text())
        expected = min(loss for _, loss in history['held_out_losses'])
        for arguments in ((), ('--text_file=./short.txt',)):  # never what was trained on
            output = use(trained, '--evaluate', *arguments)
            assert abs(figures(output)[0] - expected) < 1e-4
            assert 'the held-out part of' in output
    finally:
        (trained / 'short.txt').rename(trained / 'moved.txt')


LOADER = """
import json, sys
import numpy as np, tensorflow as tf
prime, num = json.loads(sys.argv[2]), 40
probabilities = tf.contrib.predictor.from_saved_model(sys.argv[1], 'probabilities')
generate = tf.contrib.predictor.from_saved_model(sys.argv[1], 'generate')
state = np.zeros([3, 2, 1, 16])
for id in prime[0]:
    answer = probabilities({'ids': [[id]], 'initial_state': state})
    state = answer['final_state']
drawn = generate({'prime': prime, 'num': num, 'temperature': 1e-3, 'seed': [1, 2]})['ids']
print(json.dumps([answer['probabilities'].tolist(), drawn.tolist()]))
"""


def test_an_export_gives_the_same_in_a_process_that_knows_nothing_of_the_script(trained, tmp_path):
    output = use(trained, f'--export={tmp_path}/model/1')
    assert f'The SavedModel is {tmp_path}/model/1' in output
    vocabulary = json.loads((tmp_path / 'model/1/assets/vocabulary.json').read_text())
    assert vocabulary == IX2VOCAB
    prime = [[vocabulary.index(character) for character in 'the king']]
    result = subprocess.run(
        [sys.executable, '-c', LOADER, f'{tmp_path}/model/1', json.dumps(prime)],
        check=True, cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    probabilities, drawn = json.loads(result.stdout)
    lstm = best_lstm(trained)
    logits, _ = lstm_logits(lstm, np.array(prime), np.zeros((3, 2, 1, 16)))
    np.testing.assert_allclose(probabilities[0][0], np.exp(log_softmax(logits[0, -1])), atol=1e-5)
    assert 'the king' + script.decode(drawn[0], IX2VOCAB) == likeliest(lstm, 'the king', 40)


def test_the_heat_map_shows_what_the_model_expected_of_each_character(trained):
    output = use(trained, '--heatmap=To be, or not')
    assert 'The picture is temp/heatmap.png' in output
    assert (trained / 'temp' / 'heatmap.png').read_bytes()[:4] == b'\x89PNG'


def test_the_heat_map_has_the_text_in_its_first_row_and_the_likeliest_below():
    from matplotlib.figure import Figure

    figure = Figure()
    text = np.array([3, 1, 2, 1])
    probabilities = np.array(
        [[0.1, 0.2, 0.3, 0.4], [0.7, 0.05, 0.15, 0.1], [0.25, 0.3, 0.2, 0.25]], np.float32
    )
    script.draw_heatmap(figure, text, probabilities, [script.UNKNOWN, ' ', 'b', 'c'])
    axes = figure.axes[0]
    shades = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shades[0, :4], [np.nan, 0.2, 0.15, 0.3])
    np.testing.assert_allclose(shades[1, :4], [np.nan, 0.4, 0.7, 0.3])
    letters = {(t.get_position()[0], round(t.get_position()[1])): t.get_text() for t in axes.texts}
    assert [letters[column, 0] for column in range(4)] == ['c', '\u2423', 'b', '\u2423']
    assert [letters[column, 1] for column in range(1, 4)] == ['c', '\ufffd', '\u2423']


def test_the_plot_is_drawn_again_from_the_history(trained):
    picture = trained / 'temp' / 'loss.png'
    before = picture.read_bytes()
    picture.unlink()
    assert use(trained, '--plot') == 'The plot is temp/loss.png\n'
    assert picture.read_bytes() == before


def test_several_runs_are_drawn_in_one_picture(trained, tmp_path):
    from matplotlib.figure import Figure

    other = (
        tmp_path / 'costs $1, not $2^$'
    )  # a name that would be read as a formula, and a wrong one
    shutil.copytree(str(trained / 'temp'), str(other))
    output = use(trained, '--plot', 'temp', other)
    assert output == 'The plot is temp/runs.png\n'
    folders = (other, trained / 'temp')
    assert use(tmp_path, '--plot', *folders) == 'The plot is temp/runs.png\n'  # no temp there yet
    figure = Figure()
    runs = {'one': ([3.0, 2.0], [(2, 2.5)]), 'two': ([3.0, 1.0], [(1, 2.0), (2, 1.5)])}
    script.draw_runs(figure, runs)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[:2] == ['one', 'two']
    curves = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert curves['two'] == [[1, 2.0], [2, 1.5]]


def events(folder):
    for path in sorted((folder / 'temp' / 'board').glob('events*')):
        yield from tf.compat.v1.train.summary_iterator(str(path))


def test_tensorboard_gets_the_scalars_the_samples_the_weights_the_graph_and_the_settings(trained):
    history = json.loads((trained / 'temp' / 'history.json').read_text())
    scalars, texts, histograms, graphs = {}, {}, set(), 0
    for event in events(trained):
        graphs += bool(event.graph_def)
        for value in event.summary.value:
            if value.HasField('simple_value'):
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
            elif value.HasField('histo'):
                histograms.add(value.tag)
            else:
                texts.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor).item())
    losses = {i: history['losses'][i - 1] for i in scalars['loss/training']}
    assert len(losses) == len(history['losses']) // 10
    np.testing.assert_allclose([*scalars['loss/training'].values()], [*losses.values()], rtol=1e-6)
    np.testing.assert_allclose(
        sorted(scalars['loss/held_out'].items()), history['held_out_losses'], rtol=1e-6
    )
    assert {'training/gradient_norm', 'training/learning_rate'} <= set(scalars)
    assert {'loss/training_perplexity', 'loss/held_out_perplexity'} <= set(scalars)
    assert min(scalars['training/characters_per_second'].values()) > 0
    assert sum('kernel' in tag for tag in histograms) == 3
    assert graphs == 1
    assert b'rnn_size = 16' in texts['settings'][0]
    assert texts['samples'][0].count(b'    thou art more') == 1


@pytest.mark.parametrize(
    'arguments, words',
    [
        (('--sample', '--temp_dir=nothing'), ['no model in nothing']),
        (('--sample', '--rnn_size=24'), ['rnn_size is 24', '16']),
        (('--sample', '--evaluate'), ['sample and evaluate', 'one']),
        (('--sample', '--checkpoint=temp/model-7'), ['temp/model-7', 'cannot be used']),
        (('--sample', '--prime_text=\N{COMBINING ACUTE ACCENT}'), ['no character to begin with']),
        (('--evaluate', '--text_file=nowhere.txt'), ['nowhere.txt cannot be read']),
        (('--heatmap=x',), ['2 to 2,000']),
        (('--export=temp',), ['temp exists already']),
        (('--plot', 'nothing'), ['nothing/history.json cannot be read']),
        (('--heatmap=',), ['empty']),
        (('--export=moved.txt/1',), ['moved.txt']),
    ],
)
def test_wrong_use_ends_in_one_sentence_and_changes_nothing(trained, arguments, words):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob('*')}
    status, output, errors = run_script(*arguments, cwd=trained)
    assert (status, errors.count('\n')) == (2, 1)
    assert output in ('', 'Text: nowhere.txt, as text_file says\n')
    assert all(word in errors for word in words), errors
    assert {path: path.stat().st_mtime_ns for path in trained.rglob('*')} == before
