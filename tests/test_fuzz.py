"""Mutated texts, settings and runs: one sentence or success, never a traceback.

`make test` tries up to a hundred of each; `make fuzz` sets FUZZ_EXAMPLES and tries thousands.
"""

import contextlib
import gzip
import io
import os
import pathlib
import shutil
import tempfile
import unicodedata

from backstage import reading, tf
from backstage.folder import only_run_in, settle_text
from backstage.settings import RANGES, UserError, find_fault, read_settings

import hypothesis
import numpy as np
import pytest
from conftest import TOOLS, parse, script
from hypothesis import strategies as st
from runs import ARGUMENTS, BEGUN, run_here

pytest_plugins = 'runs'

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', '100'))

many = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize='FUZZ_EXAMPLES' not in os.environ,  # `make test` always tries the same ones
    suppress_health_check=list(hypothesis.HealthCheck),
)
few = hypothesis.settings(many, max_examples=max(5, EXAMPLES // 50))

PIECES = [
    'Wer reitet so spät durch Nacht und Wind? ', 'TO BE, or not to be\r\n', '\u2603', 'e\u0301',
    '*** START OF THE PROJECT GUTENBERG EBOOK X ***\n', '*** END OF THIS PROJECT GUTENBERG EBOOK\n',
    '*END*THE SMALL PRINT!\n', 'The Project Gutenberg EBook of X\n', 'End of the Project Gutenberg',
    'to hear about new eBooks.\n', '\u0301', '\u1161', 'word\n\n' * 5000, '\0', '\ufeff', '\x1a',
    '<<THIS ELECTRONIC VERSION\n', '>>', '\n\n', '\U0001f600', '\u2028', 'a' * 3000,
]  # fmt: skip
pieces = st.lists(st.sampled_from(PIECES), max_size=60)
MUTATIONS = [
    lambda text, data, place: text[:place] + data + text[place:],
    lambda text, *_: gzip.compress(text),
    lambda text, *_: unicodedata.normalize('NFD', text.decode()).encode(),
    lambda text, *_: text.decode().encode('utf-16'),
    lambda text, *_: text.decode().encode('latin-1', 'replace'),
]
texts = st.one_of(
    st.binary(max_size=3000),
    st.text(max_size=3000).map(lambda text: text.encode('utf-8', 'surrogatepass')),
    pieces.map(lambda parts: ''.join(parts).encode()),
    st.tuples(st.sampled_from(MUTATIONS), pieces, st.binary(max_size=3), st.integers(0, 10**6)).map(
        lambda how: how[0](''.join(how[1]).encode(), *how[2:])
    ),
)


@many
@hypothesis.given(
    text=texts,
    clean_text=st.booleans(),
    min_word_freq=st.integers(1, 50),
    held_out=st.floats(1e-9, 0.9),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_any_bytes_give_a_text_or_a_message(text, clean_text, min_word_freq, held_out, shape):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = pathlib.Path(folder, 'text.txt')
        path.write_bytes(text)
        settings = parse(f'--text_file={path}', f'--temp_dir={folder}')
        settings.clean_text, settings.min_word_freq = clean_text, min_word_freq
        settings.held_out, (settings.batch_size, settings.training_seq_len) = held_out, shape
        try:
            with only_run_in(settings, script.__file__):
                ix2vocab, split, _ = script.prepare_text(settings)
                settle_text(folder, True)
        except UserError as error:
            assert '\n' not in str(error)
            assert sorted(os.listdir(folder)) == ['lock', 'text.txt']
            return
        ids = np.fromfile(f'{folder}/text.ids', script.reading.id_type(ix2vocab))
        assert 0 < split < len(ids)
        seen = reading.Counter()
        whole = ''.join(script.read_text(path, clean_text, seen))
        if not clean_text:  # the text has all of the file that was not cut off
            as_read = io.TextIOWrapper(io.BytesIO(text), encoding='utf-8-sig').read()
            assert seen['cut'] + len(whole) == len(unicodedata.normalize('NFC', as_read))
        decoded = script.decode(ids, ix2vocab)
        assert len(decoded) == len(whole)
        assert all(d in (w, '\ufffd') for d, w in zip(decoded, whole))
        x, y = script.read_batch(ids[:split], *shape, 0, 0)
        assert x.shape == y.shape == shape


@many
@hypothesis.given(pieces, st.integers(1, 100_000))
def test_the_cut_does_not_depend_on_where_a_text_is_split(parts, size):
    text = ''.join(parts)
    size = max(size, len(text) // 99)
    parted = [text[i * size : (i + 1) * size] for i in range(len(text) // size + 1)]
    counted = reading.Counter(), reading.Counter()
    whole = ''.join(reading.cut_off([text], counted[0]))
    is_same = ''.join(reading.cut_off(parted, counted[1])) == whole
    assert is_same  # pytest would take hours to show how long texts differ
    assert counted[0] == counted[1]


values = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(['True', 'False', '', '1e400', '-0', '0x10', '١', '1_0', ' 1 ', 'None', '[]']),
)


def calls_of(program):
    """Return a strategy for pairs of a program, a module, and its arguments, a list of str."""
    names = st.sampled_from([*read_settings(vars(program), []).__dict__, 'sample'])
    option = names.map('--{}'.format)
    word = st.one_of(st.tuples(option, values).map('='.join), option, values)
    return st.tuples(st.just(program), st.lists(word, max_size=5))


@many
@hypothesis.given(st.sampled_from([script] * len(TOOLS) + TOOLS).flatmap(calls_of))
def test_any_arguments_give_settings_or_a_message(call):
    program, arguments = call
    hypothesis.assume('--help' not in arguments and '-h' not in arguments)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            settings = read_settings(vars(program), arguments)
    except SystemExit as end:
        assert end.code == 2
        assert errors.getvalue().count('\n') == 1
        return
    for name, value in vars(settings).items():
        assert type(value) is type(getattr(program, name))
        kind = {**RANGES, **vars(program).get('RANGES', {})}[name]
        assert find_fault(name, value, kind) is None


def train(folder):
    """Train to iteration 61 in this process; return (exit status, standard error)."""
    return run_here(*ARGUMENTS, f'--max_iterations={BEGUN + 1}', cwd=folder)[::2]


def weights(folder):
    """Return the values of all variables after 61 iterations."""
    reader = tf.train.load_checkpoint(str(folder / 'temp' / f'model-{BEGUN + 1}'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope='module')
def expected(begun_once, tmp_path_factory):
    """The weights after 61 iterations without damage."""
    folder = tmp_path_factory.mktemp('expected') / 'run'
    shutil.copytree(str(begun_once), str(folder))
    assert train(folder)[0] == 0
    return weights(folder)


FILES = (
    'checkpoint', 'history.csv', 'settings.json', 'vocabulary.json', 'model-60.index',
    'model-60.data-00000-of-00001', 'model-50.index', 'model-50.data-00000-of-00001', 'text.ids',
    'lock',
)  # fmt: skip
# At a place in a file, this many bytes are replaced by others. 'all' removes the file.
LENGTHS = st.sampled_from([0, 1, 40, 10**7, 'all'])
damages = st.tuples(st.sampled_from(FILES), st.integers(0, 10**6), LENGTHS, st.binary(max_size=40))


@pytest.mark.long
@few
@hypothesis.given(st.lists(damages, min_size=1, max_size=3))
def test_any_damage_to_a_run_is_repaired_or_reported(begun_once, expected, damage):
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent, 'run')
        shutil.copytree(str(begun_once), str(folder))
        for file, place, length, data in damage:
            path = folder / 'temp' / file
            old = path.read_bytes() if path.exists() else b''
            begin = place % (len(old) + 1)
            if length != 'all':
                path.write_bytes(old[:begin] + data + old[begin + length :])
            elif path.exists():
                path.unlink()
        status, errors = train(folder)
        assert status in (0, 2), errors
        assert len(errors.strip().splitlines()) == (status == 2), errors
        if status == 0:
            # The run resumed from a saved model or began again, and came to the same end. It never
            # mixes two models.
            np.testing.assert_equal(weights(folder), expected)
