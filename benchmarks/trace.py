"""Write docs/saving.md: the system calls of one save. strace has to be installed.

    python benchmarks/trace.py

A power cut loses what the system had in memory alone: a file is safe once fsync was called on it,
and its name once it was on its folder. (tests/test_saving.py holds that nothing goes before that.)
"""

import pathlib
import re
import sys
import tempfile

from shared import ROOT, SCRIPT, run, write_page

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
        program = '-f', '-y', '-e', f'trace={CALLS}', '-o', trace, sys.executable, SCRIPT
        run(
            *(*ARGUMENTS.split(), '--gutenberg_url=none', f'--temp_dir={folder}/temp'),
            **{'python': 'strace', 'program': program, 'cwd': str(ROOT)},
        )
        lines = trace.read_text().replace(f'{folder}/', '').splitlines()
    found = [line for line in lines if 'temp' in line and not re.search(r'ENOENT|text\.', line)]
    # Numbers of processes and files, and the random part of a name, are nothing to look at.
    found = [re.sub(r'^\d+ +', '', re.sub(r'\(\d+<(.*)>\)', r'("\1")', line)) for line in found]
    return [re.sub(r'(tempstate|tmp)[0-9a-f]{9,}|\.\w+\.\d+(?=\.part)', r'\1', c) for c in found]


if __name__ == '__main__':
    calls = traced()
    third = max(i for i, call in enumerate(calls) if 'history.csv' in call)
    text = TEXT + ''.join(f'    {call}\n' for call in calls[third:])
    write_page('saving.md', 'What a save does to the disk', 'python benchmarks/trace.py', text)
