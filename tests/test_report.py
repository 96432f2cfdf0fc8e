"""What a run says of itself: its size, its length, its losses, and its end."""

import argparse
import math
import shlex

from backstage import report, tf

import pytest
from conftest import SMALL, parse, script


@pytest.mark.parametrize('num_layers', [1, 3])
def test_the_parameters_are_counted_as_the_graph_has_them(num_layers):
    settings = parse(*SMALL, f'--num_layers={num_layers}')
    with tf.Graph().as_default():
        script.build_models(settings, 40)
        expected = sum(weight.shape.num_elements() for weight in tf.trainable_variables())
    assert report.count_parameters(settings, vocab_size=40) == expected


@pytest.mark.parametrize(
    'characters, arguments, words',
    [
        (12_999, (), '5.0 characters for each; it may learn the text by heart: try keep_prob=0.8'),
        (13_000, (), '5.0 characters for each'),
        (2600, ('--epochs=9',), '1.0 characters for each'),
        (2600, ('--keep_prob=0.9',), '1.0 characters for each'),
    ],
)
def test_a_model_that_is_large_beside_its_text_is_told(characters, arguments, words):
    settings = parse(*SMALL, '--num_layers=1', *arguments)
    said = report.describe_size(settings, 40, characters)
    assert said == f'Model: 2,600 parameters, {words}'


@pytest.mark.parametrize(
    'num_iterations, max_iterations, words',
    [
        (19, 0, 'Run: 19 iterations of 100 x 50 characters; they are few: try a smaller'),
        (999, 1000, 'Run: 999 iterations of 100 x 50 characters; they are few: try a smaller'),
        (1000, 0, 'Run: 1,000 iterations of 100 x 50 characters'),
        (10, 10, 'Run: 10 iterations of 100 x 50 characters'),
    ],
)
def test_how_long_a_run_is_is_told(num_iterations, max_iterations, words):
    settings = parse(f'--max_iterations={max_iterations}')
    said = report.describe_length(settings, num_iterations)
    assert said.startswith(words)
    assert ('few' in said) == ('few' in words)


def test_a_loss_is_told_in_nats_bits_and_perplexity():
    assert report.describe_loss(math.log(8)) == (
        '2.0794 nats, 3.0000 bits per character, perplexity 8.000'
    )


def end_of(capsys, **changes):
    """Return the lines that a run says at its end."""
    run = {'losses': [1.0], 'held_out_losses': [], 'best': None, 'plot': '', 'folder': 'temp'}
    report.print_end(argparse.Namespace(**{**run, **changes}))
    return capsys.readouterr().out.splitlines()


def test_the_best_is_the_best_of_the_models_on_the_disk(capsys):
    _, final, best, *_ = end_of(capsys, held_out_losses=[(50, 1.0), (60, 2.0)], best=(40, 1.5))
    assert final.startswith('Final held-out loss: 2.0000 nats')
    assert best.startswith('Best held-out loss, at iteration 40: 1.5000 nats')


def test_losses_that_were_lost_do_not_count(capsys):
    final, *_ = end_of(capsys, losses=[9.0] * 50 + [math.nan] * 98 + [1.0, 2.0])
    assert final.startswith('Final loss, mean of the last 2 iterations: 1.5000 nats')
    assert 'loss' not in ''.join(end_of(capsys, losses=[math.nan] * 5))


def test_the_command_that_is_named_can_be_pasted_whatever_the_folder_is_called(capsys):
    command = end_of(capsys, folder="temp/a b's")[-2].split(': ', 1)[1]
    assert shlex.split(command) == ['python', '-m', 'tools.sample', "--temp_dir=temp/a b's"]
