"""A run that begins with the weights of another."""

import glob
import json
import os
import shutil

from backstage import tf

import numpy as np
import pytest
from conftest import IX2VOCAB, content, history
from runs import ARGUMENTS, run_here

pytest_plugins = 'runs'

# One iteration, of which nothing is learned.
STILL = ('--max_iterations=1', '--warmup_iterations=0', '--learning_rate=1e-9')
NEW = ('--text_file=new.txt', '--clean_text=False', '--min_word_freq=1')
SUFFIX = '/ExponentialMovingAverage'


def weights(checkpoint, suffix=''):
    """Return the trainable variables of a checkpoint, or their averages: a dict from names."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    shapes = reader.get_variable_to_shape_map()
    # The variables of an average have the name of the model twice.
    names = {n.split('lstm_model/')[-1][: -len(SUFFIX)]: n for n in shapes if n.endswith(SUFFIX)}
    return {
        name: reader.get_tensor(long if suffix else f'lstm_model/{name}')
        for name, long in names.items()
    }


@pytest.fixture
def new_text(begun):
    """A text with capitals, line ends and others that the vocabulary of a clean run lacks."""
    text = (begun / 'short.txt').read_text().upper()[:9000]
    (begun / 'new.txt').write_text(text + '\N{GREEK SMALL LETTER ALPHA}', encoding='utf-8')
    return begun


def test_a_run_begins_with_the_averaged_weights_of_the_best_model_of_another(new_text):
    how = (*ARGUMENTS, *NEW, *STILL)
    status, output, errors = run_here(
        *how, '--init_from=temp', '--temp_dir=next', '--seed=2', cwd=new_text
    )
    assert (status, errors) == (0, '')
    assert 'Beginning with the weights of temp/best/model-60\n' in output
    assert run_here(*how, '--temp_dir=fresh', '--seed=2', cwd=new_text)[0] == 0
    ix2vocab = json.loads((new_text / 'next' / 'vocabulary.json').read_text())
    new = [symbol for symbol in ix2vocab if symbol not in IX2VOCAB]
    assert {'A', '\n', '\N{GREEK SMALL LETTER ALPHA}'} < set(new) and len(new) > 26
    assert f'New to it: {len(new)} symbols, {"".join(new)!r}\n' in output
    theirs = weights(new_text / 'temp' / 'best' / 'model-60', SUFFIX)
    fresh = weights(new_text / 'fresh' / 'model-1')
    for ours in (
        weights(new_text / 'next' / 'model-1'),
        weights(new_text / 'next' / 'model-1', SUFFIX),
    ):
        assert set(ours) == set(theirs) == set(fresh) and len(ours) == 7
        for ix, symbol in enumerate(ix2vocab):
            there = IX2VOCAB.index(symbol) if symbol in IX2VOCAB else ix
            known = fresh if symbol in new else theirs
            for name, axis in ('embedding_mat', 0), ('W', 1), ('b', 0):
                one, other = ours[name].take(ix, axis), known[name].take(there, axis)
                np.testing.assert_allclose(one, other, atol=1e-6)
        for name in set(ours) - {'embedding_mat', 'W', 'b'}:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6)
            assert abs(ours[name] - fresh[name]).max() > 0.01


def test_on_the_same_text_it_begins_where_the_other_ended(begun):
    how = (*ARGUMENTS, *STILL, '--init_from=temp', '--temp_dir=next')
    status, output, errors = run_here(*how, cwd=begun)
    assert (status, errors) == (0, '')
    assert 'New to it' not in output
    (_, before), (_, after) = (
        history(begun / temp)['held_out_losses'][-1] for temp in ('temp', 'next')
    )
    assert abs(before - after) < 1e-5


def test_once_begun_it_goes_on_with_its_own_weights_without_the_other(begun):
    how = (*ARGUMENTS, '--init_from=temp', '--temp_dir=next')
    assert run_here(*how, '--max_iterations=5', cwd=begun)[0] == 0
    shutil.copytree(str(begun / 'next'), str(begun / 'copy'))
    assert run_here(*how, '--max_iterations=9', cwd=begun)[0] == 0
    shutil.rmtree(str(begun / 'temp'))
    how = (*ARGUMENTS, '--init_from=temp', '--temp_dir=copy')
    status, output, errors = run_here(*how, '--max_iterations=9', cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Continuing after iteration 5' in output and 'Beginning with' not in output
    assert content(begun / 'copy') == content(begun / 'next')


def test_what_is_damaged_of_the_best_model_is_not_needed(begun):
    (data,) = glob.glob(str(begun / 'temp' / 'best' / 'model-60.data*'))
    os.truncate(data, 100)
    how = (*ARGUMENTS, *STILL, '--init_from=temp', '--temp_dir=next')
    status, output, errors = run_here(*how, cwd=begun)
    assert (status, errors) == (0, '')
    assert 'Beginning with the weights of temp/model-60\n' in output


@pytest.mark.parametrize(
    'how, sentence',
    [
        (['--init_from=nowhere'], 'there is no model in nowhere. Give init_from the temp_dir of'),
        (['--init_from=.'], 'there is no model in .. Give init_from the temp_dir of a run'),
        (['--init_from=temp', '--rnn_size=8'], 'other layers: it has --rnn_size=16. Give that, or'),
        (
            ['--init_from=temp', '--num_layers=3', '--residual=False'],
            'it has --num_layers=2 --residual=True. Give that, or another init_from',
        ),
        (
            ['--init_from=next/../temp', '--temp_dir=temp', '--restart'],
            'temp is where this run would be. Give it another temp_dir',
        ),
    ],
)
def test_what_cannot_be_begun_with_gets_a_sentence_before_the_text_is_read(begun, how, sentence):
    (begun / 'next').mkdir()
    before = content(begun / 'temp')
    status, output, errors = run_here(*ARGUMENTS, '--temp_dir=next', *how, cwd=begun)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert sentence in errors
    assert content(begun / 'temp') == before


@pytest.mark.parametrize('damage', ['settings.json', 'vocabulary.json', 'data'])
def test_another_run_that_is_damaged_gets_a_sentence(begun, damage):
    for path in glob.glob(f'{begun}/temp/*{damage}*') + glob.glob(f'{begun}/temp/best/*{damage}*'):
        os.truncate(path, 10)
    status, _, errors = run_here(
        *ARGUMENTS, '--init_from=temp', '--temp_dir=next', '--max_iterations=2', cwd=begun
    )
    assert (status, errors.count('\n')) == (2, 1)
    assert 'in temp ' in errors and 'Give another init_from' in errors
