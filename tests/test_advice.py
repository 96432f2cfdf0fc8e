"""benchmarks/advice.py: the rows of the table of dropout."""

import sys

from backstage import saving

from conftest import ROOT, parse

sys.path.insert(0, str(ROOT / 'benchmarks'))

import advice


def leave_a_run(size, rnn_size, iterations, keep_prob, *losses):
    """Leave what a run has to leave, a history with a held-out loss at each save."""
    folder = advice.folder_of(size, rnn_size, iterations, keep_prob)
    folder.mkdir(parents=True)
    of_run = saving.History(str(folder), [], [])
    of_run.losses += [2.5] * iterations
    of_run.held_out_losses += zip((400, 800, 2500), losses)
    of_run.append()


def test_a_row_shows_the_loss_at_the_end_and_the_best_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(advice, 'RUNS', tmp_path)
    assert list(advice.measured()) == []
    leave_a_run(1_000_000, 128, 2500, 1, 2.0, 1.5, 1.625)
    leave_a_run(1_000_000, 128, 2500, 0.85, 2.25, 2.0, 1.5625)
    leave_a_run(1_000_000, 128, 2500, 0.5, 2.25, 2.0)  # did not end
    leave_a_run(3_000_000, 128, 800, 0.7, 2.25, 2.0)
    leave_a_run(300_000, 256, 800, 1, 2.25, 2.0)
    best = '**1.5625**', '', ''
    assert list(advice.measured()) == [
        ('1,000,000', '128', '2.5', '2,500', '6.9', '2.8', '1.6250 (was 1.5000)', '', *best),
        ('3,000,000', '128', '7.6', '800', '0.7', '0.1', '', '', '', '**2.0000**', ''),
        ('300,000', '256', '0.2', '800', '7.4', '37.5', '**2.0000**', '', '', '', ''),
    ]


def test_the_texts_are_whole_lines_from_the_begin_of_the_works(tmp_path, monkeypatch):
    monkeypatch.setattr(advice, 'RUNS', tmp_path / 'runs')
    works = tmp_path / 'works.txt'
    works.write_bytes(b'To be, or not to be\n' * 200_000)
    monkeypatch.setattr(advice, 'parse', lambda: parse(f'--text_file={works}'))
    advice.leave_texts()
    for size, *_ in advice.TRIED:
        text = (tmp_path / 'runs' / f'{size}.txt').read_bytes()
        assert text == b'To be, or not to be\n' * (size // 20)


def test_a_run_is_trained_on_each_core_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(advice, 'RUNS', tmp_path)
    monkeypatch.setattr(advice, 'SAME', (*advice.SAME[:2], '--batch_size=2'))
    (tmp_path / '3000.txt').write_text('To be, or not to be\n' * 150)
    advice.rows.on_each_core(advice.train, [(3000, 8, 4, 0.5), (3000, 8, 4, 1)])
    for keep_prob in 0.5, 1:
        assert len(advice.held_out_losses(3000, 8, 4, keep_prob)) == 1
        folder = advice.folder_of(3000, 8, 4, keep_prob)
        assert advice.rows.held_out_losses(folder, 5) == []
