"""The commands as a user starts them, from the root of the repo."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import utils

DATA_COMMANDS = [f"data/{path.name}" for path in sorted((ROOT / "data").glob("*_data*.py"))]
COMMANDS = ["training.py", "inference.py", *DATA_COMMANDS, "-m evaluation", "-m export", "-m benchmark"]


@pytest.mark.parametrize(("number", "command"), list(enumerate(COMMANDS)))
def test_stopped_while_it_starts_a_command_says_one_line(number, command, tmp_path):
    """In the middle of the imports: a package that sends the signal stands for a slow one."""
    sent = (signal.SIGINT, signal.SIGTERM)[number % 2]
    for name in ("cv2", "tensorflow"):
        stop = f"import os\nos.kill(os.getpid(), {int(sent)})\nimport time\ntime.sleep(60)\n"
        (tmp_path / f"{name}.py").write_text(stop)
    argv, env = [sys.executable, *command.split(), "--help"], {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=env)
    lines = [line for line in result.stderr.splitlines() if "cudart" not in line and "absl" not in line]
    assert result.returncode in (130, -signal.SIGINT) and lines == [f"{Path(command.split()[-1]).name}: interrupted"]


@pytest.mark.parametrize("program", DATA_COMMANDS)
def test_data_commands_start_without_tensorflow(program):
    assert len(DATA_COMMANDS) == 4
    flags = ["-X", "importtime", program, "--help"]
    result = subprocess.run([sys.executable, *flags], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert {"cv2", "run.command", "data.files"} <= modules
    assert not modules & {"tensorflow", "keras", "sklearn", "matplotlib", "files"}


def test_settings_of_others_break_no_command(tmp_path, tiny_data):
    """A notebook's matplotlib, another project's Keras: training, whose plots need both, and then inference."""
    settings = '{"backend": "jax", "image_data_format": "channels_first", "floatx": "float16"}'
    (tmp_path / "keras.json").write_text(settings)
    foreign = {"KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path), "MPLBACKEND": "module://no_such.backend_inline"}
    run, out = tmp_path / "run", tmp_path / "out"
    for words in (
        f"training.py --srcdir {tiny_data} --modeldir none --outdir {run} --logdir {tmp_path / 'log'} --steps 1 "
        "--image-size 32 64 --batch-size 2 --reg 0.001",
        f"inference.py --modeldir {run} --indir {tiny_data / 'images'} --outdir {out} --save labels",
    ):
        argv = [sys.executable, *words.split()]
        subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, env={**os.environ, **foreign})
    weights = utils.load_model(run).weights
    assert {weight.dtype for weight in weights} == {"float32"} and len(list(out.iterdir())) == 8
    assert (tmp_path / "keras.json").read_text() == settings
