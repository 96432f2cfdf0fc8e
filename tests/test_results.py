"""benchmarks/: what is compared for the same time (results.py), and what is tried (variants.py)."""

import subprocess
import sys

from backstage import tf

import numpy as np
import pytest
from conftest import ROOT, SMALL, parse, script
from matplotlib.figure import Figure

sys.path.insert(0, str(ROOT / 'benchmarks'))

import results
import rows
import shared
import texts
import turns
import variants


def test_only_what_changes_the_time_of_an_iteration_is_measured_again():
    same = 'script --rnn_size=256 --keep_prob=0.8'
    assert results.shape('script', '--rnn_size=256 --keep_prob=0.7 --learning_rate=0.02') == same
    assert results.shape('script', '--rnn_size=256 --keep_prob=0.9 --weight_decay=0.3') == same
    assert results.shape('script', '--rnn_size=128 --keep_prob=0.8') != same
    assert results.shape('script', '--rnn_size=256 --keep_prob=1') != same


def test_a_budget_is_some_minutes_of_iterations_and_each_run_is_kept_under_a_name_of_its_own():
    seconds = rows.noted(results.NOTES / 'seconds.json')
    names = {name for program in results.TRIALS for name in results.trials(program)}
    assert {name for row in results.FINAL for name in results.finals(row)} <= names
    assert len({rows.folder_of(ROOT, name) for name in names}) == len(names)
    for ours in ['script', 'variants'], ['recipe'], ['nanogpt']:  # as many for each program
        assert (
            sum(minutes == 10 for program in ours for minutes, _ in results.TRIALS[program]) <= 12
        )
    for program, trials in results.TRIALS.items():
        for minutes, settings in trials:
            one = seconds[results.shape(program, settings)]['seconds']
            number = results.iterations(program, minutes, settings)
            assert number * one == pytest.approx(60 * minutes, abs=one)


def test_the_parts_of_tinyshakespeare_are_those_that_others_use(tmp_path, monkeypatch):
    monkeypatch.setattr(results, 'RUNS', tmp_path)
    text = np.random.RandomState(0).choice(list(b'abc\n'), size=1_115_394).astype(np.uint8)
    (tmp_path / 'text').write_bytes(text.tobytes())
    results.split(tmp_path / 'text')
    chosen, last = ((tmp_path / name).read_bytes() for name in ('chosen.txt', 'last.txt'))
    assert chosen + last == text.tobytes() == (tmp_path / 'all.txt').read_bytes()
    assert len(last) == 55_770
    for program, length in ('script', len(chosen)), ('recipe', len(text)):
        words = results.same(program)
        (held_out,) = [word for word in words if word.startswith('--held_out=')]
        assert script.held_out_begin(length, float(held_out.partition('=')[2])) == 1_003_854
    (tmp_path / 'text').write_bytes(b'another text')
    with pytest.raises(SystemExit, match='is not tinyshakespeare'):
        results.split(tmp_path / 'text')


def test_the_trial_that_was_chosen_is_the_first_of_the_runs_that_are_reported(
    tmp_path, monkeypatch
):
    for name in 'RUNS', 'NOTES':
        monkeypatch.setattr(results, name, tmp_path)
    monkeypatch.setattr(results, 'SEEDS', (1,))
    monkeypatch.setattr(results, 'FINAL', {'ours': ('script', {3: '--epochs=1'})})
    monkeypatch.setattr(results, 'iterations', lambda *_: 98)
    monkeypatch.setattr(results, 'run', lambda *_, **__: 'last.txt: 1.2345 nats')
    trial = {'training': 1.0, 'iterations': [98], 'held_out': [1.3]}
    rows.note(tmp_path / 'trials.json', 'script_3_epochs_1_1', trial)
    (tmp_path / 'script_3_epochs_1_1').mkdir()
    results.train_finals('', 'ours')
    reported = rows.noted(tmp_path / 'final.json')
    assert reported == {'script_3_epochs_1_1': {**trial, 'last': 1.2345}}


@pytest.mark.parametrize('polynomials', [variants.FIVE, variants.THREE])
def test_orthogonalized_matrices_have_singular_values_near_one(polynomials):
    matrices = np.random.RandomState(0).normal(size=(4, 12, 24)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(variants.orthogonal(tf.constant(matrices), polynomials))
    singular = np.linalg.svd(found, compute_uv=False)
    assert singular.min() > 0.6 and singular.max() < 1.3
    u, _, v = np.linalg.svd(matrices, full_matrices=False)
    np.testing.assert_allclose(found, u @ v, atol=0.2)  # the nearest orthogonal matrices


@pytest.mark.long
@pytest.mark.parametrize(
    'names',
    [
        'any_offset',
        'drop_recurrent=0.8',
        'muon=0.1=0.9',
        'muon=0.1=0.9=8',
        'adam=0.99,linear',
    ],
)
def test_each_variant_learns(names, short_text, tmp_path):
    command = [sys.executable, str(ROOT / 'benchmarks' / 'variants.py'), names, *SMALL]
    command += [f'--text_file={short_text}', f'--temp_dir={tmp_path}', '--max_iterations=60']
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=shared.ENVIRONMENT)
    losses, _ = shared.read_history(tmp_path)
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.3
    stepper = turns.Stepper('variant_steps', names, *SMALL, f'--text_file={short_text}')
    assert stepper.run(2) > 0
    stepper.end()


def test_each_text_is_trained_with_the_defaults_and_with_settings_for_its_size():
    for size, epochs in (4_000_000, {10}), (1_000_000, {10}), (300_000, {10, 20}):
        defaults, *others = (parse(*settings.split()) for settings in texts.grid(size))
        assert defaults == parse()
        assert {one.epochs for one in others} == epochs
    found = {'--batch_size=50': {'held_out': [2.0, 1.5]}, texts.DEFAULT: {'held_out': [1.6]}}
    assert texts.lines_of('log', 300_000, found) == [
        ('log', '300,000', '`--batch_size=50`', '**1.5000**'),
        ('log', '300,000', f'`{texts.DEFAULT}`', '1.6000'),
    ]


def test_the_page_has_what_ran_with_its_minutes_and_the_mean_of_all_seeds(tmp_path, monkeypatch):
    def found(last, *held_out):
        more = {'training': 1.0, 'iterations': [50, 99], 'held_out': held_out, 'last': last}
        return {'seconds': 1.0, **more}

    monkeypatch.setattr(results, 'NOTES', tmp_path)
    monkeypatch.setattr(results, 'DOCS', tmp_path)
    monkeypatch.setattr(results, 'SEEDS', (1, 2))
    monkeypatch.setattr(results, 'TRIALS', {'script': [(3, '--epochs=1'), (10, '--epochs=2')]})
    monkeypatch.setattr(results, 'FINAL', {'ours': ('script', {3: '--epochs=1'})})
    monkeypatch.setattr(results, 'iterations', lambda *_: 98)  # as measured later
    pages = []
    monkeypatch.setattr(results, 'write_page', lambda *page: pages.append(page[-1]))
    rows.note(tmp_path / 'trials.json', 'script_3_epochs_1_1', found(0, 3.0, 2.5))
    for seed, loss in (1, 2.0), (2, 3.0):
        rows.note(tmp_path / 'final.json', f'script_3_epochs_1_{seed}', found(loss, 4.0, loss - 1))
    results.write_results()
    cells = [line.strip('| ').split(' | ') for line in pages[0].splitlines() if '99' in line]
    assert cells == [
        ['ours', '3', '`--epochs=1`', '99', '1.5000 ± 0.7071', '2.5000 ± 0.7071', '2'],
        ['script', '3', '`--epochs=1`', '99', '2.5000', '1.0000'],
    ]
    assert (tmp_path / 'results.png').stat().st_size > 1000


def test_losses_are_drawn_over_minutes_and_each_row_stands_in_the_legend_once(monkeypatch):
    monkeypatch.setattr(results, 'FINAL', {'a': None, 'b': None})
    one = {'iterations': [5, 10], 'held_out': [2.0, 1.0]}
    other = {'iterations': [5, 10], 'held_out': [4.0, 2.0]}
    figure = Figure()
    results.draw_losses(figure, {('a', 3): {1: one, 2: other}, ('a', 10): {1: one}})
    (axes,) = figure.axes
    curve, end, longer, _ = axes.get_lines()
    assert curve.get_xydata().tolist() == [[1.5, 3.0], [3.0, 1.5]]
    assert end.get_xydata().tolist() == [[3.0, 1.5]]
    assert longer.get_xdata().tolist() == [5.0, 10.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['a']
