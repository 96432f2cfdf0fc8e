"""The script in a notebook: a real kernel, which gets its requests as from Jupyter."""

import contextlib
import re
import shutil
import sys

import jupyter_client
import nbclient
import nbformat
import pytest
from conftest import ROOT, SCRIPT, SMALL

IMPORT = 'import stacked_lstm_shakespeare as script\n'
ARGUMENTS = [*SMALL, '--text_file=short.txt', '--save_every=50']

pytestmark = [pytest.mark.long, pytest.mark.xdist_group('notebook')]


class Notebook:
    """A kernel in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.manager, self.client = jupyter_client.manager.start_new_kernel(cwd=str(folder))
        assert self.run(f'import sys; sys.path.insert(0, {str(ROOT)!r})') == ('', '')

    def run(self, code, interrupt_at=None):
        """Run a cell; return the text that it shows, and the error that it raises or ''.

        Once it shows the text `interrupt_at`, interrupt the kernel, as the button does.
        """
        shown, error = '', ''

        def show(message):
            nonlocal shown, error, interrupt_at
            content = message['content']
            if message['msg_type'] == 'error':
                error = f'{content["ename"]}: {content["evalue"]}'
            shown += content.get('text', '') + content.get('data', {}).get('text/plain', '')
            if interrupt_at and interrupt_at in shown:
                interrupt_at = None
                self.manager.interrupt_kernel()

        # With stop_on_error the kernel could skip a cell that follows an error too soon.
        self.client.execute_interactive(
            code, stop_on_error=False, timeout=240, output_hook=show, allow_stdin=False
        )
        return shown, error

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope='module')
def notebook(tmp_path_factory, works):
    folder = tmp_path_factory.mktemp('notebook')
    (folder / 'short.txt').write_bytes(works[2_000_000:2_020_000])
    notebook = Notebook(folder)
    yield notebook
    notebook.close()


def test_run_magic_trains_and_the_kernel_stays_usable(notebook):
    shown, error = notebook.run(f'%run {SCRIPT} {" ".join(ARGUMENTS)} --max_iterations=20')
    assert 'Iteration: 20,' in shown and 'The plot is temp/loss.png' in shown
    assert error == ''
    assert notebook.run('1 + 1') == ('2', '')


def test_an_interrupt_during_the_import_leaves_the_kernel_alive(tmp_path):
    (tmp_path / 'tensorflow.py').write_text(
        "import time; print('begun', flush=True); time.sleep(60)"
    )
    notebook = Notebook(tmp_path)
    with contextlib.closing(notebook):
        notebook.run('sys.path.insert(0, "")')
        _, error = notebook.run(f'%run {SCRIPT} --epochs=1', interrupt_at='begun')
        assert error.startswith('KeyboardInterrupt')
        assert notebook.run('1 + 1') == ('2', '')


def test_an_interrupt_saves_and_the_next_cell_resumes(notebook):
    code = f'{IMPORT}script.main({[*ARGUMENTS, "--temp_dir=stopped"]})'
    shown, error = notebook.run(code, interrupt_at='Iteration: 20,')
    assert error == ''
    assert 'saving, then stopping' in shown
    stopped = re.search(r'Stopped after iteration (\d+)', shown).group(1)
    assert shown.endswith('130')
    code = f'script.main({[*ARGUMENTS, "--temp_dir=stopped", "--max_iterations=100"]})'
    assert f'Resuming after iteration {stopped}' in notebook.run(code)[0]
    # The kernel can still be interrupted as usual.
    code = 'import time\nprint("waiting", flush=True)\ntime.sleep(60)'
    assert notebook.run(code, interrupt_at='waiting')[1].startswith('KeyboardInterrupt')


def test_main_trains_in_a_thread_and_a_shell_command_samples(notebook):
    arguments = [*ARGUMENTS, '--max_iterations=5', '--temp_dir=thread']
    shown, error = notebook.run(
        f'{IMPORT}import threading\nstatus = []\n'
        f'thread = threading.Thread(target=lambda: status.append(script.main({arguments})))\n'
        f'thread.start(); thread.join(); print(status)'
    )
    assert error == ''
    assert 'Held-out loss' in shown and shown.endswith('[0]\n')
    assert (notebook.folder / 'thread' / 'loss.png').exists()
    command = f'!PYTHONPATH={ROOT} {sys.executable} -m tools.sample --temp_dir=thread'
    shown, error = notebook.run(command)
    assert error == ''
    assert shown.startswith('thou art more')


def test_a_mistake_gets_one_sentence_in_a_notebook_too(notebook):
    shown, error = notebook.run(f'%run {SCRIPT} --text_file=nowhere.txt --temp_dir=new')
    assert shown.splitlines()[-1].startswith('stacked_lstm_shakespeare.py: nowhere.txt cannot be')
    assert error in ('', 'SystemExit: 2')


def test_the_notebook_of_the_project_runs_from_top_to_bottom(tmp_path):
    for name in 'backstage', 'tools':
        shutil.copytree(str(ROOT / name), str(tmp_path / name))
    shutil.copy(str(SCRIPT), str(tmp_path))
    book = nbformat.read(str(SCRIPT.with_suffix('.ipynb')), as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == 'code']
    # It is stored without outputs.
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)
    where = {'metadata': {'path': str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=240, kernel_name='python3', resources=where).execute()
    set_up, train, plot, samples, careful, compare = [
        ''.join(output.get('text', '') for output in cell.outputs) for cell in cells
    ]
    assert (set_up, plot) == ('', '')
    for shown in train, compare:
        assert 'Final held-out loss' in shown and 'The plot is temp/' in shown
    assert 'The plot is temp/runs.png' in compare
    assert len(re.findall('^my lord.+', samples, re.M)) == 3
    assert len(re.findall('^my lord.+', careful, re.M)) == 1
    for cell in cells[2], cells[5]:
        assert cell.outputs[-1].data['image/png']
