"""Nothing is lost: runs that are killed, run out of room or meet bad numbers."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, fake_step, miniature

import training
import utils

# Runs the command in forked processes, so that TensorFlow is imported once, and kills them. The network is a
# miniature; the command, its files, the data, augmentation, dropout, optimizer and averages are the real ones.
KILLER = """
import json, os, random, signal, sys, time
sys.path[:0] = [ROOT, ROOT + "/tests"]
from conftest import miniature
import numpy as np
import training, utils
utils.build_model = miniature
training.SummaryLog.images = training.SummaryLog.weights = lambda *args: None

def start(argv):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = training.main(argv)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child

def wait(child):
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0, status

def saved():
    return os.stat(checkpoint).st_mtime_ns if os.path.exists(checkpoint) else 0

flags, whole, killed = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
checkpoint = killed + "/checkpoint.npz"
wait(start([*flags, "--outdir", whole, "--logdir", whole + "-log"]))
rng, kills, steps = random.Random(5), 0, []
while kills < 10:
    first = not saved()
    child = start([*flags, "--outdir", killed, "--logdir", killed + "-log"] if first else ["--resume", killed])
    # at any moment: of the start, or some time after some checkpoint
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        last = saved()
        while saved() == last and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
    time.sleep(rng.choice([rng.uniform(0, 0.02), rng.uniform(0, 0.3)]))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    kills += 1
    if saved():
        with np.load(checkpoint) as arrays:  # never a broken one
            steps.append(json.loads(str(arrays["state"]))["step"])
            assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name != "state")
        assert utils.read_config(killed)["network"]
wait(start(["--resume", killed]))
print(json.dumps({"kills": kills, "steps": steps}))
"""


def test_killed_ten_times_and_still_the_same_weights(tiny_data, tmp_path):
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 2 --seed 3"
    flags += " --reg 0.001 --lr 3e-3 --optimizer adamw --schedule cosine --warmup 4 --ema 0.9 --clip-norm 10"
    flags += " --steps 160 --save-every 3 --val-every 2 --plot-every 1000 --cluster-every 1000 --deterministic"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    result = subprocess.run(
        [sys.executable, "-c", KILLER.replace("ROOT", repr(str(ROOT))), json.dumps(flags.split()), whole, killed],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["kills"] == 10 and len(set(told["steps"])) >= 4, told  # spread over the run
    with np.load(whole / "checkpoint.npz") as a, np.load(killed / "checkpoint.npz") as b:
        assert a.files == b.files
        for key in a.files:
            if key != "state":
                np.testing.assert_array_equal(a[key], b[key])

    def rows(folder):
        kept = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in kept]

    assert rows(whole) == rows(killed) and rows(whole)[-1]["step"] == 160
    for kind in ("best", "last"):
        assert utils.read_config(whole / kind)["step"] == utils.read_config(killed / kind)["step"]
    # a killed writer may leave its temporary file, but never under a real name
    assert {p.name for p in killed.iterdir() if not p.name.startswith(".")} == {p.name for p in whole.iterdir()}


def small_run(tiny_data, folder, monkeypatch, losses, more=""):
    fake_step(monkeypatch, losses)
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 4 {more}"
    return training.main([*flags.split(), "--outdir", str(folder), "--logdir", f"{folder}-log"])


def test_full_disk(tiny_data, tmp_path, monkeypatch, capsys):
    """Writing fails for real, by the system's limit on file sizes; the checkpoint before stays good."""
    run = tmp_path / "run"
    monkeypatch.setattr(utils, "build_model", miniature)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    small = iter([1.0, 1.0, 1.0])

    def losses():
        yield from small
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # bytes
        yield 1.0

    try:
        with pytest.raises(SystemExit) as exit_:
            small_run(tiny_data, run, monkeypatch, losses(), "--steps 9 --save-every 2 --val-every 50")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert exit_.value.code == 2 and str(run) in error and "the checkpoint of step 2 is intact" in error
    assert not [p.name for p in run.rglob(".*")]
    monkeypatch.undo()
    monkeypatch.setattr(utils, "build_model", miniature)
    fake_step(monkeypatch, [1.0] * 7)
    assert training.main(["--resume", str(run)]) == 0  # from step 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_right_to_write(tiny_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(SystemExit) as exit_:
        small_run(tiny_data, tmp_path / "locked" / "run", monkeypatch, [1.0], "--steps 1")
    assert exit_.value.code == 2 and "locked" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_file_in_the_way_of_the_run_folder(tiny_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").write_text("")
    monkeypatch.setattr(utils, "build_model", miniature)
    with pytest.raises(SystemExit) as exit_:
        small_run(tiny_data, tmp_path / "run", monkeypatch, [1.0], "--steps 1")
    assert exit_.value.code == 2 and str(tmp_path / "run") in capsys.readouterr().err.strip().splitlines()[-1]


def test_stops_at_bad_numbers_with_the_model_before_them(tiny_data, tmp_path, monkeypatch, capsys):
    """With the real step: an image that makes the loss NaN at step 3."""
    monkeypatch.setattr(utils, "build_model", miniature)
    monkeypatch.setattr(training.SummaryLog, "images", lambda *args: None)
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 4 --steps 6"
    make, count = training.make_train_step, []

    def poisoned(model, *args):
        step = make(model, *args)

        def call(image, label):
            count.append([w.copy() for w in model.get_weights()])
            return step(image * np.float32(np.nan if len(count) == 3 else 1), label)

        return call

    monkeypatch.setattr(training, "make_train_step", poisoned)
    with pytest.raises(SystemExit) as exit_:
        training.main([*flags.split(), "--outdir", str(tmp_path / "run"), "--logdir", str(tmp_path / "log")])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert exit_.value.code == 2 and "step 3: loss or gradient is not finite (loss nan" in error
    assert error.count(".png") == 4 and "l_var" in error and "gradient norm" in error and "last" in error
    for a, b in zip(utils.load_model(tmp_path / "run" / "last").get_weights(), count[2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_images_than_at_the_start(tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(utils, "build_model", miniature)
    small_run(tiny_data, tmp_path / "run", monkeypatch, [1.0] * 2, "--steps 2")
    config = utils.read_config(tmp_path / "run")
    config["images"]["training"] += 1
    utils.write_json(tmp_path / "run" / "config.json", config)
    with pytest.raises(SystemExit) as exit_:
        training.main(["--resume", str(tmp_path / "run")])
    assert exit_.value.code == 2 and "images" in capsys.readouterr().err.strip().splitlines()[-1]
