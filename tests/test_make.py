"""Makefile: what it says of a `.venv` that cannot be used."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT


@pytest.fixture
def folder(tmp_path):
    """A folder with what `make` reads, and an empty `.venv`."""
    for name in 'Makefile', 'requirements.txt':
        shutil.copy(str(ROOT / name), str(tmp_path))
    (tmp_path / '.venv' / 'bin').mkdir(parents=True)
    return tmp_path


def said_by_make(folder):
    result = subprocess.run(
        ['make', '--no-print-directory', 'train'],
        check=False,
        cwd=str(folder),
        env={name: os.environ[name] for name in ('PATH', 'HOME')},  # and not what make gave us
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert (result.returncode, result.stdout) == (2, '')
    return result.stderr.split('\n')[0]


def test_a_venv_of_another_python_is_told(folder):
    python = folder / '.venv' / 'bin' / 'python'
    python.write_text('#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 11); $2"\n')
    python.chmod(0o755)
    assert said_by_make(folder) == (
        '.venv is of another Python than 3.7. Remove it (rm -r .venv), and run make again.'
    )


def test_a_venv_copied_from_another_machine_is_told(folder):
    (folder / '.venv' / 'bin' / 'python').symlink_to('/nowhere/python3.7')
    assert said_by_make(folder) == (
        '.venv is of a Python that is not here. Remove it (rm -r .venv), and run make again.'
    )
