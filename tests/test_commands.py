"""The commands as a user starts them, from the root of the repo."""

import subprocess
import sys

import pytest
from conftest import ROOT

COMMANDS = [
    "data/tusimple_dataset_processing.py",
    "data/synthetic_dataset.py",
    "training.py",
    "inference.py",
    "visualization.py",
    "-m evaluation",
    "-m export",
    "-m benchmark",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_flags(command):
    result = subprocess.run([sys.executable, *command.split(), "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("usage:")
    assert "Traceback" not in result.stderr
