"""Training on two devices and on two machines (processes on loopback), with a miniature network."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import ROOT, error_line, miniature, save_miniature

import training
import utils

EMBEDDING = "--steps 5"
# without the discriminative loss, slow to compile
SEMANTIC = "--steps 8 --save-every 3 --val-every 2 --var 0 --dist 0 --reg 0"
RUNNER = """
import sys, time
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from conftest import miniature
import tensorflow as tf
import training, utils
utils.build_model = miniature
training.SummaryLog.images = lambda *args: None
count = training.Run.count
training.Run.count = lambda *args: (time.sleep(0.2), count(*args))[1]  # so that a run can be stopped in its middle
if "mirrored" in sys.argv:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.exit(training.main(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path, tiny_data, monkeypatch):
    """Function that starts `training.py`, as task `index` of two workers, in this process with "here"."""
    monkeypatch.setattr(utils, "build_model", miniature)
    monkeypatch.setattr(training.SummaryLog, "images", lambda *args: None)
    keras.utils.set_random_seed(1)  # weights that depend on the tests before may have gradients next to 0, see below
    save_miniature(tmp_path / "model", dropout=False)  # whose masks differ between batches of 2 and of 4
    (tmp_path / "run.py").write_text(RUNNER.format(root=str(ROOT)))
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    started = []

    def go(outdir, more, index=None):
        flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir {tmp_path / 'model'} --image-size 64 96"
        flags += f" --batch-size 4 --reg 0.001 --lr 1e-3 --outdir {outdir} --logdir {outdir}-log {more}"
        if index == "here":
            return training.main(flags.split())
        environment = dict(os.environ)
        if index is not None:
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        log = open(f"{outdir}-{index}.txt", "a+")  # noqa: SIM115 (read after the process has ended)
        command = [sys.executable, str(tmp_path / "run.py"), *flags.split()]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
        started.append((process, log))
        return process

    yield go
    for process, log in started:
        process.kill()
        process.wait()
        log.close()


def finish(*processes):
    for process in processes:
        assert process.wait(timeout=240) == 0


def weights(run):
    with np.load(run / "checkpoint.npz") as saved:
        return [saved[name] for name in saved.files if name != "state" and saved[name].dtype == np.float32]


def assert_same_run(run, reference):
    """Same weights, batch-norm averages, Adam's moments and validation."""
    found, expected = weights(run), weights(reference)
    assert len(expected) == 9 + 2 * 7  # weights, and both moments of those that are trained
    for a, b in zip(expected, found, strict=True):
        # where a gradient is next to 0, Adam makes steps of its rounding
        assert np.abs(a - b).max() <= 0.02 * np.abs(a).max()
    rows = [list(map(json.loads, (path / "log.jsonl").read_text().splitlines())) for path in (run, reference)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for one, two in zip(*rows, strict=True):
        assert one["val"] == pytest.approx(two["val"], rel=1e-3, abs=1e-5)


def test_two_replicas_do_what_one_does(start, tmp_path):
    assert start(tmp_path / "one", EMBEDDING, "here") == 0
    finish(start(tmp_path / "mirrored", f"{EMBEDDING} --strategy mirrored"))
    assert_same_run(tmp_path / "mirrored", tmp_path / "one")


def test_two_workers_do_what_one_does_though_one_is_killed(start, tmp_path):
    """Started again, it goes on with the other from the checkpoint, to the same weights."""
    assert start(tmp_path / "one", SEMANTIC, "here") == 0
    more, run = f"{SEMANTIC} --strategy multiworker", tmp_path / "run"
    chief, other = (start(run, more, index) for index in range(2))
    while not (run / "checkpoint.npz").exists():
        assert chief.poll() is None and other.poll() is None
        time.sleep(0.05)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    # the chief may notice before or after the other is back
    finish(start(run, more, 1), chief)
    told = (tmp_path / "run-0.txt").read_text()
    assert "a worker is gone" in told and "going on from step" in told
    assert_same_run(run, tmp_path / "one")
    # the second worker writes nothing
    assert sorted(path.name for path in tmp_path.glob("run*")) == ["run", "run-0.txt", "run-1.txt", "run-log", "run.py"]


@pytest.mark.parametrize(
    "value", ["{", "[]", '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}']
)
def test_bad_tf_config(value, tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", value)
    argv = f"--srcdir {tiny_data} --outdir {tmp_path / 'run'} --strategy multiworker".split()
    assert error_line(training.main, capsys, *argv).count("TF_CONFIG") == 1
    assert not (tmp_path / "run").exists()
