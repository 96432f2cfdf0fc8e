"""backstage/bars.py: what a terminal shows of work that takes long."""

import io
import re
import sys
import time

from backstage import bars, workers

import pytest
from conftest import SMALL, parse, script


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    'errors, is_first, is_shown',
    [(Terminal(), True, True), (io.StringIO(), True, False), (Terminal(), False, False)],
    ids=['in a terminal', 'elsewhere', 'on another worker than the first'],
)
def test_a_progress_bar_counts_characters_in_a_terminal(errors, is_first, is_shown, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', errors)
    monkeypatch.setattr(workers, 'is_first', lambda: is_first)
    bar = bars.progress_bar(20, 80, parse('--batch_size=10', '--training_seq_len=5'))
    bar.update(1000)
    bar.close()
    assert ('2.00k/4.00k' in errors.getvalue()) == is_shown
    assert bool(errors.getvalue()) == is_shown


def test_at_the_end_of_a_run_the_bar_shows_its_loss_again(short_text, monkeypatch):
    monkeypatch.chdir(short_text.parent)
    monkeypatch.setattr(sys, 'stderr', Terminal())
    arguments = [*SMALL, '--num_layers=1', '--text_file=short.txt', '--max_iterations=3']
    assert script.main([*arguments, '--show_plot=False']) == 0
    *_, last = [part for part in sys.stderr.getvalue().split('\r') if 'char/s' in part]
    assert 'measuring the held-out loss' in sys.stderr.getvalue()
    assert 'loss 3.' in last and 'measuring' not in last


def test_the_last_bar_does_not_count_as_training_what_was_measured_and_drawn(
    short_text, monkeypatch
):
    def late(function):
        def call(*arguments, **more):
            time.sleep(2)
            return function(*arguments, **more)

        return call

    for name in 'measure', 'sample_texts':
        monkeypatch.setattr(script, name, late(getattr(script, name)))
    monkeypatch.chdir(short_text.parent)
    monkeypatch.setattr(sys, 'stderr', Terminal())
    arguments = [*SMALL, '--num_layers=1', '--text_file=short.txt', '--max_iterations=9']
    assert script.main([*arguments, '--eval_every=3', '--save_every=3', '--show_plot=False']) == 0
    *_, last = re.findall(r'\[(\d\d):(\d\d)<', sys.stderr.getvalue())
    assert 60 * int(last[0]) + int(last[1]) < 6  # of some 12 seconds


@pytest.mark.parametrize('delay, is_shown', [(0, True), (60, False)])
def test_reading_a_file_shows_how_far_it_is_if_that_takes_some_seconds(
    tmp_path, delay, is_shown, monkeypatch
):
    (tmp_path / 'my.txt').write_text('wörd' * 250, encoding='utf-8')  # 1,250 bytes
    monkeypatch.setattr(bars, 'DELAY', delay)
    monkeypatch.setattr(sys, 'stderr', Terminal())
    pieces = ['wörd' * 125] * 2
    assert list(bars.shown(str(tmp_path / 'my.txt'), pieces)) == pieces
    assert ('my.txt: ' in sys.stderr.getvalue()) == is_shown
    assert ('1.25k' in sys.stderr.getvalue()) == is_shown


@pytest.mark.parametrize('delay, is_shown', [(0, True), (60, False)])
def test_measuring_shows_how_far_it_is_if_that_takes_some_seconds(delay, is_shown, monkeypatch):
    monkeypatch.setattr(bars, 'DELAY', delay)
    monkeypatch.setattr(sys, 'stderr', Terminal())
    assert list(bars.measured(range(3, 9, 2))) == [3, 5, 7]
    assert ('Measuring: ' in sys.stderr.getvalue()) == is_shown
    assert ('/3 ' in sys.stderr.getvalue()) == is_shown


def test_without_a_terminal_there_is_no_bar(tmp_path, monkeypatch):
    monkeypatch.setattr(bars, 'DELAY', 0)
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    assert list(bars.shown(str(tmp_path / 'none.txt'), ['a'])) == ['a']
    assert list(bars.measured(range(2))) == [0, 1]
    assert sys.stderr.getvalue() == ''
