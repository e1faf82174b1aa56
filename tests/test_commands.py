"""The commands as a user starts them: help, and OpenCV without its system libraries."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

COMMANDS = [
    "data/tusimple_dataset_processing.py",
    "data/synthetic_dataset.py",
    "training.py",
    "inference.py",
    "visualization.py",
]


def start(command, arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / command), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_opencv_without_libgl_ends_in_the_line_that_helps(command, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    result = start(command, ["--help"], PYTHONPATH=str(tmp_path))
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert "libGL.so.1" in last and "apt-get install -y libgl1 libglib2.0-0" in last


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_flags(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        importlib.import_module(Path(command).stem).main(["--help"])
    assert exit_.value.code == 0 and "usage:" in capsys.readouterr().out
