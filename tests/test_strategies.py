"""Training on two devices and on two machines (processes on loopback), with a miniature network."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, miniature

import training
import utils

RUNS = ("one", "mirrored", "workers")
RUNNER = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from conftest import miniature
import tensorflow as tf
import training, utils
utils.build_model = miniature
training.SummaryLog.images = training.SummaryLog.weights = lambda *args: None
if "mirrored" in sys.argv:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.exit(training.main(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path, tiny_data, monkeypatch):
    """Function that starts `training.py` with more flags, as task `index` of a two-worker cluster if given.

    With "here" it is run in this process.
    """
    monkeypatch.setattr(utils, "build_model", miniature)
    for name in ("images", "weights"):
        monkeypatch.setattr(training.SummaryLog, name, lambda *args: None)
    network = {"input_shape": [64, 96, 3], "dropout": False}  # masks differ between batches of 2 and of 4
    utils.save_model(tmp_path / "model", miniature(network), {"network": network})
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


def test_two_replicas_do_what_one_does(start, tmp_path):
    """Same global batch, same weights after 5 steps, moving averages of batch norm and Adam's moments included."""
    assert start(tmp_path / "one", "--steps 5", "here") == 0
    finish(start(tmp_path / "mirrored", "--steps 5 --strategy mirrored"))
    finish(*(start(tmp_path / "workers", "--steps 5 --strategy multiworker", index) for index in range(2)))
    reference = weights(tmp_path / "one")
    assert len(reference) == 9 + 2 * 7  # weights, and both moments of those that are trained
    for other in ("mirrored", "workers"):
        for a, b in zip(reference, weights(tmp_path / other), strict=True):
            # where a gradient is next to 0, Adam makes steps of its rounding
            assert np.abs(a - b).max() <= 0.02 * np.abs(a).max(), other
    validations = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])["val"] for name in RUNS]
    for other in validations[1:]:
        assert other == pytest.approx(validations[0], rel=1e-3, abs=1e-5)
    # the second worker writes nothing
    assert sorted(p.name for p in tmp_path.glob("workers*")) == [
        "workers",
        "workers-0.txt",
        "workers-1.txt",
        "workers-log",
    ]
    assert len((tmp_path / "workers" / "log.jsonl").read_text().splitlines()) == 3


def test_a_killed_worker_comes_back(start, tmp_path):
    """One of two workers is killed and started again with its command: both go on from the checkpoint to the end."""
    more = "--steps 60 --save-every 5 --val-every 100 --strategy multiworker"
    more += " --var 0 --dist 0 --reg 0"  # whose compilation would take most of the time
    run = tmp_path / "run"
    chief, other = (start(run, more, index) for index in range(2))
    while not (run / "checkpoint.npz").exists():
        assert chief.poll() is None and other.poll() is None
        time.sleep(0.05)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    # the chief notices within seconds; whether before or after the other is back must not matter
    finish(start(run, more, 1), chief)
    told = (tmp_path / "run-0.txt").read_text()
    assert "a worker is gone" in told and "going on from step" in told
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"] == 60


@pytest.mark.parametrize(
    "value", ["{", "[]", '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}']
)
def test_bad_tf_config(value, tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(SystemExit) as exit_:
        training.main(f"--srcdir {tiny_data} --outdir {tmp_path / 'run'} --strategy multiworker".split())
    assert exit_.value.code == 2 and capsys.readouterr().err.strip().splitlines()[-1].count("TF_CONFIG") == 1
    assert not (tmp_path / "run").exists()
