"""Nothing is lost: runs that are killed, run out of room or meet bad numbers."""

import json
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, error_line, fake_step, miniature

import training
import utils
from run import devices
from run.checkpoint import CHECKPOINT_FILE
from run.command import UserError
from run.config import settle_flags
from run.folder import take_folder
from run.train_step import LOSS_TERMS

# Runs the command in forked processes, so that TensorFlow is imported once, and stops them by a signal. The network
# alone isn't the real one.
STOPPER = """
import json, os, random, signal, sys, time, traceback
sys.path[:0] = [ROOT, ROOT + "/tests"]
from conftest import miniature
import numpy as np
import matplotlib.figure, mpl_toolkits.mplot3d
import training, utils
from run.command import start
utils.build_model = miniature
start()

def start(argv):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = training.main(argv)
        except SystemExit as end:
            code = end.code
        except KeyboardInterrupt:  # the impatient one
            code = 130
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def saved():
    return os.stat(checkpoint).st_mtime_ns if os.path.exists(checkpoint) else 0

flags, whole, stopped, kinds = json.loads(sys.argv[1]), *sys.argv[2:4], sys.argv[4].split(",")
checkpoint = stopped + "/checkpoint.npz"
assert end(start([*flags, "--outdir", whole, "--logdir", whole + "-log"])) == 0
rng, steps, codes = random.Random(5), [], []
while len(codes) < len(kinds):
    first = not saved()
    child = start([*flags, "--outdir", stopped, "--logdir", stopped + "-log"] if first else ["--resume", stopped])
    # during the start, or some time after a checkpoint
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        last = saved()
        while saved() == last:
            assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "it ended by itself"
            time.sleep(0.001)
    time.sleep(rng.choice([rng.uniform(0, 0.02), rng.uniform(0, 0.3)]))
    kind = kinds[len(codes)]
    os.kill(child, getattr(signal, kind))
    if kind == "SIGINT" and rng.random() < 0.5:
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGINT)  # impatient
    codes.append(end(child))
    assert (codes[-1] == -signal.SIGKILL) if kind == "SIGKILL" else codes[-1] in (0, 130), codes
    if saved():
        with np.load(checkpoint) as arrays:  # never a broken one
            steps.append(json.loads(str(arrays["state"]))["step"])
            assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name != "state")
        assert utils.read_config(stopped)["network"]
assert end(start(["--resume", stopped])) == 0
print(json.dumps({"codes": codes, "steps": steps}))
"""


run_error = partial(error_line, training.main)


@pytest.fixture(autouse=True)
def miniatures(monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)


def test_workers_go_on_with_the_flags_of_their_run(tiny_data, tmp_path):
    """They start with the whole command again: with the same flags, or not at all."""
    run = tmp_path / "run"
    command = ["--srcdir", str(tiny_data), "--outdir", str(run), "--strategy", "multiworker"]
    args, saved = settle_flags(command)
    assert saved is None
    run.mkdir()
    (run / CHECKPOINT_FILE).touch()
    flags = {name: value for name, value in vars(args).items() if name not in ("resume", "command")}
    network = {"input_shape": [64, 96, 3]}
    utils.write_json(run / utils.CONFIG_FILE, {"network": network, "flags": {**flags, "lr": 0.003}})
    resumed, saved = settle_flags([*command, "--steps", "9"])
    assert saved["flags"]["lr"] == resumed.lr == 0.003 and resumed.steps == 9 and resumed.resume == str(run)
    with pytest.raises(UserError, match=r"--lr: found 0.1, expected 0.003 as in .*run;"):
        settle_flags([*command, "--lr", "0.1"])


def test_stopped_again_and_again_and_still_the_same_weights(tiny_data, tmp_path, monkeypatch):
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 2 --seed 3"
    flags += " --var 0 --dist 0 --reg 0"  # the discriminative loss takes long to compile and keeps no state
    flags += " --lr 3e-3 --optimizer adamw --schedule cosine --warmup 4 --ema 0.9"
    flags += " --steps 96 --save-every 3 --val-every 4 --plot-every 50 --deterministic"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    code = STOPPER.replace("ROOT", repr(str(ROOT)))
    kinds = "SIGINT,SIGTERM,SIGINT,SIGTERM,SIGKILL,SIGINT,SIGKILL,SIGKILL"
    command = [sys.executable, "-c", code, json.dumps(flags.split()), whole, stopped, kinds]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr[-3000:]
    told = json.loads(result.stdout.splitlines()[-1])
    assert len(set(told["steps"])) >= 4, told  # spread over the run
    with np.load(whole / "checkpoint.npz") as a, np.load(stopped / "checkpoint.npz") as b:
        assert a.files == b.files
        for key in a.files:
            if key != "state":
                np.testing.assert_array_equal(a[key], b[key])

    def rows(folder):
        kept = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in kept]

    assert rows(whole) == rows(stopped) and rows(whole)[-1]["step"] == 96
    for name in ("best", "last"):
        assert utils.read_config(whole / name)["step"] == utils.read_config(stopped / name)["step"]
        for a, b in zip(*(utils.load_model(folder / name).get_weights() for folder in (whole, stopped)), strict=True):
            np.testing.assert_array_equal(a, b)
    there, expected = ({p.name for p in run.iterdir()} for run in (stopped, whole))
    assert {name for name in there if not name.startswith(".")} == expected


def command(data, folder, more=""):
    flags = f"--srcdir {data} --valdir {data} --modeldir none --image-size 64 96 --batch-size 4 {more}"
    return [*flags.split(), "--outdir", str(folder), "--logdir", f"{folder}-log"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_full_disk(tiny_data, tmp_path, monkeypatch, capsys):
    """By the system's limit on file sizes; the checkpoint before stays good."""
    run = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def losses():
        yield from [1.0] * 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # bytes
        yield 1.0

    fake_step(monkeypatch, losses())
    try:
        error = run_error(capsys, *command(tiny_data, run, "--steps 9 --save-every 2 --val-every 50"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(run) in error and "step 4 could not be saved" in error
    assert not [p.name for p in run.rglob(".*")]
    fake_step(monkeypatch, [1.0] * 7)
    assert training.main(["--resume", str(run)]) == 0  # from step 2


def test_stops_at_bad_numbers_with_the_model_before_them(tiny_data, tmp_path, monkeypatch, capsys):
    """With the real step, whose image becomes NaN at step 3."""
    monkeypatch.setattr(training.SummaryLog, "images", lambda *args: None)
    make, weights = training.make_train_step, []

    def poisoned(model, *args):
        step = make(model, *args)

        def call(image, label):
            weights.append([w.copy() for w in model.get_weights()])
            return step(image * np.float32(np.nan if len(weights) == 3 else 1), label)

        return call

    monkeypatch.setattr(training, "make_train_step", poisoned)
    error = run_error(capsys, *command(tiny_data, tmp_path / "run", "--steps 6 --var 0 --dist 0 --reg 0"))
    assert "step 3: loss or gradient is not finite (loss nan" in error
    assert error.count(".png") == 4 and "l_var" in error and "gradient_norm" in error and "last" in error
    for a, b in zip(utils.load_model(tmp_path / "run" / "last").get_weights(), weights[2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_trains_longer_but_takes_no_other_flag_and_no_other_data(
    tiny_data, tmp_path, monkeypatch, capsys
):
    data, run = shutil.copytree(tiny_data, tmp_path / "data"), tmp_path / "run"
    fake_step(monkeypatch, [1.0] * 2)
    training.main(command(data, run, "--steps 2"))
    before = contents(run)
    monkeypatch.setattr("run.folder.fcntl", None)  # as on Windows
    assert training.main(["--resume", str(run)]) == 0  # there is nothing to do
    assert "step 2, the last one; --steps 4 trains longer" in capsys.readouterr().out
    assert "found --steps 1, expected more than the 2" in run_error(capsys, "--resume", run, "--steps", 1)
    assert "--lr: found 1.0, expected" in run_error(capsys, "--resume", run, "--steps", 5, "--lr", 1)
    label, name = (data / "labels/0000.png").read_bytes(), data / "images/0003.png"
    shutil.copy(data / "labels/0001.png", data / "labels/0000.png")
    assert "other training data" in run_error(capsys, "--resume", run, "--steps", 4)
    (data / "labels/0000.png").write_bytes(label)
    name.rename(name.with_suffix(".bmp"))
    assert "other training data" in run_error(capsys, "--resume", run, "--steps", 4)
    name.with_suffix(".bmp").rename(name)
    assert contents(run) == before
    for steps in (5, 6):  # and once more
        fake_step(monkeypatch, [1.0] * 3)
        assert training.main(["--resume", str(run), "--steps", str(steps)]) == 0
        assert utils.read_config(run)["flags"]["steps"] == utils.read_config(run / "last")["step"] == steps


def test_best_begins_anew_with_another_measure(tiny_data, tmp_path, monkeypatch):
    """Labels of lanes appear: what was measured before isn't comparable."""
    run = tmp_path / "run"
    fake_step(monkeypatch, [1.0] * 2)
    training.main(command(tiny_data, run, "--steps 2"))
    fake_step(monkeypatch, [1.0])
    scored = {**dict.fromkeys(LOSS_TERMS, 2.0), "Accuracy": 0.0, "FP": 1.0, "FN": 1.0}
    monkeypatch.setattr(training.Validation, "run", lambda self: scored)
    assert training.main(["--resume", str(run), "--steps", "3"]) == 0
    assert utils.read_config(run / "best")["step"] == 3


def test_data_and_run_folder_that_moved(tiny_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    for name in ("data", "val"):
        shutil.copytree(tiny_data, name)
    flags = "--srcdir data:2 --valdir val --modeldir none --image-size 64 96 --batch-size 4 --outdir run --steps 1"
    fake_step(monkeypatch, [1.0])
    assert training.main(flags.split()) == 0
    Path("data").rename("images_of_mine")
    Path("run").rename("run_of_mine")
    assert "data" in run_error(capsys, "--resume", "run_of_mine", "--steps", 3)
    fake_step(monkeypatch, [1.0] * 2)
    there = ["--srcdir", "images_of_mine:2", "--valdir", "val"]
    assert training.main(["--resume", "run_of_mine", "--steps", "3", *there]) == 0
    saved = utils.read_config("run_of_mine")["flags"]
    assert (saved["srcdir"], saved["valdir"]) == (["images_of_mine:2"], ["val"])
    assert {path.name for path in Path().iterdir()} == {"images_of_mine", "val", "run_of_mine"}


def test_a_folder_that_holds_something_is_left_alone(tiny_data, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("mine")
    assert f"--outdir {run}: found config.json" in run_error(capsys, *command(tiny_data, run, "--steps 1"))
    assert contents(run) == {run / "config.json": b"mine"}


def test_two_runs_in_one_folder(tiny_data, tmp_path, capsys):
    with take_folder(tmp_path / "run", new=True):
        error = run_error(capsys, *command(tiny_data, tmp_path / "run", "--steps 1"))
        assert f"{tmp_path / 'run'}: found another run" in error
    assert not (tmp_path / "run").exists()


def test_a_worker_that_never_comes_back_is_not_waited_for_for_ever(monkeypatch, capsys):
    started, slept = [], []
    monkeypatch.setattr(devices.os, "execv", lambda *args: started.append(args))
    monkeypatch.setattr(devices.time, "sleep", slept.append)
    monkeypatch.setenv(devices.RESTARTS, "0 0")
    error = RuntimeError("no route to worker 1")
    for _ in range(devices.MOST_RESTARTS):
        devices.rejoin(error, 7)
    assert slept == [2**n for n in range(devices.MOST_RESTARTS)] and len(started) == devices.MOST_RESTARTS
    with pytest.raises(UserError, match="no route to worker 1"):
        devices.rejoin(error, 7)
    devices.rejoin(error, 8)  # a step was made: the count begins anew
    assert slept[-1] == 1 and "restart 1 of" in capsys.readouterr().err.splitlines()[-1]
