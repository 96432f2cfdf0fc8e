"""Write docs/saving.md: the system calls of one save, and that nothing is removed too soon.

    python benchmarks/trace.py

strace has to be installed. A power cut loses what the system had in memory alone: a file is safe
once fsync was called on it, and its name once it was on its folder.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

from shared import ROOT, SCRIPT, write_page

CALLS = 'fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2'
ARGUMENTS = '--max_iterations=30 --save_every=10 --rnn_size=16 --eval_every=100'
TEXT = """The calls of `fsync`, `rename` and `unlink` in the third save of a short run, as `strace`
shows them. The losses come first, then the best model, the newest, and the picture. An older model
is removed (`unlink`) only after the new one (`fsync` of its files) and its names (`fsync` of its
folder) are on the disk. So, whatever the moment of a power cut, a whole model is there, and the
losses up to it.

"""


def traced():
    """Return the calls that a short run makes in its folder: list of str."""
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder, 'trace')
        command = ['strace', '-f', '-y', '-e', f'trace={CALLS}', '-o', str(trace), sys.executable]
        command += [str(SCRIPT), *ARGUMENTS.split()]
        command += ['--gutenberg_url=none', f'--temp_dir={folder}/temp']
        subprocess.run(command, check=True, cwd=str(ROOT), stdout=subprocess.DEVNULL)
        lines = trace.read_text().splitlines()
        found = [re.sub(r'^\d+ +', '', line).replace(folder + '/', '') for line in lines]
    found = [line for line in found if 'temp' in line and not re.search(r'ENOENT|text\.', line)]
    # Numbers of files and the random part of a name are nothing to look at.
    found = [re.sub(r'\(\d+<(.*)>\)', r'("\1")', line) for line in found]
    return [re.sub(r'(tempstate|tmp)[0-9a-f]{9,}|\.\w+\.\d+(?=\.part)', r'\1', c) for c in found]


def check(calls):
    """Raise AssertionError if a model is removed before another one is on the disk."""
    safe, removed = set(), 0
    for call in calls:
        path = re.search(r'"([^"]+)"', call).group(1)
        if call.startswith('fsync'):
            safe.add(path)
        elif call.startswith('unlink') and 'model-' in path and 'tempstate' not in path:
            folder, name = path.rsplit('/', 1)
            iteration = int(re.search(r'model-(\d+)', name).group(1))
            later = [p for p in safe if re.match(rf'{folder}/model-{iteration + 10}\.', p)]
            assert len(later) == 2 and folder in safe, call
            removed += 1
        elif call.startswith('rename'):
            safe.discard(path.rsplit('/', 1)[0])  # its names have changed
    assert removed == 6, removed


def main():
    calls = traced()
    check(calls)
    third = max(i for i, call in enumerate(calls) if 'history.csv' in call)
    text = TEXT + ''.join(f'    {call}\n' for call in calls[third:])
    write_page('saving.md', 'What a save does to the disk', 'python benchmarks/trace.py', text)


if __name__ == '__main__':
    main()
