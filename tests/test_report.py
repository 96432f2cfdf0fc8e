"""What a run says of itself: its size, its length, its losses, and its end."""

import argparse
import io
import math
import os
import shlex
import sys
import unicodedata

from backstage import report, tf

import pytest
from conftest import ROOT, SMALL, parse, script


@pytest.mark.parametrize('num_layers', [1, 3])
def test_the_parameters_are_counted_as_the_graph_has_them(num_layers):
    settings = parse(*SMALL, f'--num_layers={num_layers}')
    with tf.Graph().as_default():
        script.build_models(settings, 40)
        expected = sum(weight.shape.num_elements() for weight in tf.trainable_variables())
    assert report.count_parameters(settings, vocab_size=40) == expected


@pytest.mark.parametrize(
    'ratio, keep_prob, better',
    [
        (4, 1, ''), (4.5, 1, 0.93), (8, 1, 0.93), (4.5, 0.95, ''),
        (8.5, 1, 0.85), (8.5, 0.93, 0.85), (50, 1, 0.85), (8.5, 0.9, ''),
        (50.5, 1, 0.7), (50.5, 0.85, 0.7), (50.5, 0.8, ''),
        (120.5, 1, 0.5), (120.5, 0.7, 0.5), (120.5, 0.65, ''), (1e6, 0.5, ''),
    ],
)  # fmt: skip
@pytest.mark.parametrize('each', [0.5, 1, 2])
def test_a_text_that_is_read_often_for_its_size_needs_dropout(each, ratio, keep_prob, better):
    settings = parse(*SMALL, '--num_layers=1', f'--keep_prob={keep_prob}')  # 2,600 parameters
    characters = int(2600 * each)
    batch = settings.batch_size * settings.training_seq_len
    num_iterations = ratio * each * characters / batch
    said = report.describe_size(settings, 40, characters, num_iterations)
    advice = f'; it may learn the text by heart: try keep_prob={better}' if better else ''
    assert said == f'Model: 2,600 parameters, {each:.1f} characters for each{advice}'


def test_the_keep_prob_that_is_advised_is_the_best_of_each_row_that_was_measured():
    lines = (ROOT / 'docs' / 'advice.md').read_text().split('\n')
    head, _, *rows = ([cell.strip() for cell in line.split('|')] for line in lines if '|' in line)
    ratio = head.index('passes / characters for each parameter')
    assert len(rows) >= 9
    for row in rows:
        (best,) = (name for name, cell in zip(head, row) if cell.startswith('**'))
        above = (better for least, _, better in report.DROPOUT if float(row[ratio]) > least)
        assert f'keep_prob={next(above, 1)}' == best, row


@pytest.mark.parametrize(
    'num_iterations, max_iterations, rate, advice',
    [
        (19, 0, '0.00806', '; they are few: try a smaller batch_size, or more epochs'),
        (999, 1000, '0.0424', '; they are few: try a smaller batch_size, or more epochs'),
        (1000, 0, '0.0424', ''),
        (100, 100, '0.0424', ''),
        (10, 10, '0.00424', ''),  # it ends while the rate still rises
    ],
)
def test_how_long_a_run_is_is_told(num_iterations, max_iterations, rate, advice):
    settings = parse(f'--max_iterations={max_iterations}')
    length = f'Run: {num_iterations:,} iterations of 100 x 50 characters, at a rate of up to {rate}'
    assert report.describe_length(settings, num_iterations, 0.03 * 2**0.5) == length + advice


def test_a_loss_is_told_in_nats_bits_and_perplexity():
    assert report.describe_loss(math.log(8)) == (
        '2.0794 nats, 3.0000 bits per character, perplexity 8.000'
    )


def end_of(capsys, **changes):
    """Return the lines that a run says at its end."""
    run = {'losses': [1.0], 'last': 1, 'held_out_losses': [], 'best': None, 'plot': ''}
    run['settings'] = parse()
    report.print_end(argparse.Namespace(**{**run, **changes}))
    return capsys.readouterr().out.splitlines()


def test_the_best_is_the_best_of_the_models_on_the_disk(capsys):
    _, final, best, *_ = end_of(capsys, held_out_losses=[(50, 1.0), (60, 2.0)], best=(40, 1.5))
    assert final.startswith('Final held-out loss: 2.0000 nats')
    assert best.startswith('Best held-out loss, at iteration 40: 1.5000 nats')


@pytest.mark.parametrize('length, width', [(1, 1), (30, 3), (150, 15), (995, 100), (9070, 100)])
def test_the_final_loss_is_the_mean_of_the_last_tenth_and_of_100_iterations_at_most(
    capsys, length, width
):
    losses = [9.0] * (length - width) + [2.0] * width
    final, *_ = end_of(capsys, losses=losses)
    assert final.startswith(f'Final loss, mean of the last {width} iterations: 2.0000 nats')


def test_losses_that_were_lost_do_not_count(capsys):
    final, *_ = end_of(capsys, losses=[9.0] * 950 + [math.nan] * 98 + [1.0, 2.0])
    assert final.startswith('Final loss, mean of the last 2 iterations: 1.5000 nats')
    assert 'loss' not in ''.join(end_of(capsys, losses=[math.nan] * 5))


def test_a_command_that_is_named_can_be_pasted_anywhere_whatever_the_folder_is_called(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    *_, first, second = end_of(capsys, settings=parse("--temp_dir=temp/a b's"))
    words = shlex.split(first.split(': ', 1)[1])
    assert words == [sys.executable, f'{ROOT}/tools/sample.py', f"--temp_dir={tmp_path}/temp/a b's"]
    assert shlex.split(second.split(': ', 1)[1]) == [sys.executable, f'{ROOT}/tools']


OBEYED = '\x00 \x07 \x1b[31m \r \x7f \x9b2J \x85 \u202e \u2066 \t\n é \u05d0\u200f 唐'


def test_a_terminal_gets_symbols_for_what_it_would_obey_and_a_pipe_or_a_file_the_exact_text():
    shown = '␀ ␇ ␛[31m ␍ ␡ \ufffd2J \ufffd \ufffd \ufffd \t\n é \u05d0\u200f 唐'
    terminal, pipe = os.openpty(), os.pipe()
    for ends, expected in (terminal, shown), (pipe, OBEYED):
        with open(ends[0], 'rb'), open(ends[1], 'w') as file:
            assert report.shown(OBEYED, file) == expected
    assert report.shown(OBEYED, io.StringIO()) == OBEYED


def test_no_control_character_but_tab_and_line_end_comes_to_a_terminal():
    with open(os.openpty()[1], 'w') as terminal:
        shown = report.shown(''.join(map(chr, range(0x3000))), terminal)
    controls = [one for one in shown if unicodedata.category(one) == 'Cc']
    assert controls == ['\t', '\n']
    directions = {unicodedata.bidirectional(one) for one in shown}
    assert not directions & {'LRE', 'RLE', 'LRO', 'RLO', 'PDF', 'LRI', 'RLI', 'FSI', 'PDI'}
