"""Nothing is lost: runs that are killed, run out of room or meet bad numbers."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, fake_step, miniature

import training
import utils
from run import devices
from run.checkpoint import CHECKPOINT_FILE
from run.command import UserError
from run.config import settle_flags
from run.folder import take_folder

# Runs the command in forked processes, so that TensorFlow is imported once, and stops them by a signal. The network is
# a miniature; the command, its files, data, augmentation, dropout, optimizer, averages and plots are the real ones.
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
            try:
                code = training.main(argv)
            except SystemExit as end:
                code = end.code
        except KeyboardInterrupt:  # the impatient one, while the first one's exit code was on its way, too
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
    # at any moment: of the start, or some time after some checkpoint
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
    hidden = [name for name in os.listdir(os.path.dirname(checkpoint)) if name.startswith(".")] if saved() else []
    # a killed writer may leave its temporary file, but never under a real name; a stopped one leaves none
    assert "SIGKILL" in kinds[: len(codes)] or not hidden, hidden
    if saved():
        with np.load(checkpoint) as arrays:  # never a broken one
            steps.append(json.loads(str(arrays["state"]))["step"])
            assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name != "state")
        assert utils.read_config(stopped)["network"]
assert end(start(["--resume", stopped])) == 0
print(json.dumps({"codes": codes, "steps": steps}))
"""


@pytest.fixture(autouse=True)
def miniatures(monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)


def test_workers_go_on_with_the_flags_of_their_run(tiny_data, tmp_path):
    """Several machines start with the whole command again: with the same flags, or not at all."""
    run = tmp_path / "run"
    command = ["--srcdir", str(tiny_data), "--outdir", str(run), "--strategy", "multiworker"]
    args = training.parse_args(command)
    assert settle_flags(args) == (args, None)  # new
    run.mkdir()
    (run / CHECKPOINT_FILE).touch()
    flags = {name: value for name, value in vars(args).items() if name not in ("resume", "command", "given")}
    network = {"input_shape": [64, 96, 3]}
    utils.write_json(run / utils.CONFIG_FILE, {"network": network, "flags": {**flags, "lr": 0.003}})
    resumed, saved = settle_flags(training.parse_args([*command, "--steps", "9"]))
    assert saved["flags"]["lr"] == resumed.lr == 0.003 and resumed.steps == 9
    with pytest.raises(UserError, match=r"--lr: found 0.1, expected 0.003 as the run in .*run has"):
        settle_flags(training.parse_args([*command, "--lr", "0.1"]))


def test_stopped_again_and_again_and_still_the_same_weights(tiny_data, tmp_path, monkeypatch):
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 2 --seed 3"
    # without the discriminative loss, whose compilation would take most of the time and which keeps no state
    flags += " --var 0 --dist 0 --reg 0"
    flags += " --lr 3e-3 --optimizer adamw --schedule cosine --warmup 4 --ema 0.9 --clip-norm 10"
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
    there, expected = ({p.name for p in folder.iterdir()} for folder in (stopped, whole))
    assert {name for name in there if not name.startswith(".")} == expected


def small_run(tiny_data, folder, monkeypatch, losses, more=""):
    fake_step(monkeypatch, losses)
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 4 {more}"
    return training.main([*flags.split(), "--outdir", str(folder), "--logdir", f"{folder}-log"])


def test_full_disk(tiny_data, tmp_path, monkeypatch, capsys):
    """Writing fails for real, by the system's limit on file sizes; the checkpoint before stays good."""
    run = tmp_path / "run"
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
    fake_step(monkeypatch, [1.0] * 7)
    assert training.main(["--resume", str(run)]) == 0  # from step 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_right_to_write(tiny_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(SystemExit) as exit_:
        small_run(tiny_data, tmp_path / "locked" / "run", monkeypatch, [1.0], "--steps 1")
    assert exit_.value.code == 2 and "locked" in capsys.readouterr().err.strip().splitlines()[-1]


def test_stops_at_bad_numbers_with_the_model_before_them(tiny_data, tmp_path, monkeypatch, capsys):
    """With the real step: an image that makes the loss NaN at step 3."""
    monkeypatch.setattr(training.SummaryLog, "images", lambda *args: None)
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --batch-size 4 --steps 6"
    flags += " --var 0 --dist 0 --reg 0"  # whose compilation would take most of the time
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


def run_error(capsys, *argv):
    """The one line with which training.py ends."""
    with pytest.raises(SystemExit) as exit_:
        training.main(list(map(str, argv)))
    assert exit_.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("change", ["an image more", "another label", "a renamed image"])
def test_other_data_than_at_the_start(change, tiny_data, tmp_path, monkeypatch, capsys):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    small_run(data, tmp_path / "run", monkeypatch, [1.0] * 2, "--steps 2")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for kind in ("images", "labels"):
        if change == "an image more":
            shutil.copy(data / kind / "0000.png", data / kind / "0100.png")
        elif change == "a renamed image":
            (data / kind / "0003.png").rename(data / kind / "0103.png")
        elif kind == "labels":
            shutil.copy(data / kind / "0001.png", data / kind / "0000.png")
    assert "other training data" in run_error(capsys, "--resume", tmp_path / "run", "--steps", 4)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_resume_trains_longer_but_takes_no_other_flag(tiny_data, tmp_path, monkeypatch, capsys):
    small_run(tiny_data, tmp_path / "run", monkeypatch, [1.0] * 2, "--steps 2")
    count = len(list((tiny_data / "images").iterdir()))
    assert f"{count} validation images ({count} of them trained on, too)" in capsys.readouterr().out
    assert "--lr: found 1.0, expected" in run_error(capsys, "--resume", tmp_path / "run", "--steps", 5, "--lr", 1)
    assert "found --steps 1" in run_error(capsys, "--resume", tmp_path / "run", "--steps", 1)
    fake_step(monkeypatch, [1.0] * 3)
    assert training.main(["--resume", str(tmp_path / "run"), "--steps", "5"]) == 0
    assert utils.read_config(tmp_path / "run")["flags"]["steps"] == 5
    assert utils.read_config(tmp_path / "run/last")["step"] == 5
    fake_step(monkeypatch, [1.0])
    assert training.main(["--resume", str(tmp_path / "run"), "--steps", "6"]) == 0  # and once more
    logdir = Path(utils.read_config(tmp_path / "run")["flags"]["logdir"])
    shutil.rmtree(logdir)
    logdir.touch()
    assert f"--logdir: found that {logdir} is no folder" in run_error(
        capsys, "--resume", tmp_path / "run", "--steps", 7
    )


def test_data_and_run_folder_that_moved(tiny_data, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for name in ("data", "val"):
        shutil.copytree(tiny_data, name)
    flags = "--srcdir data:2 --valdir val --modeldir none --image-size 64 96 --batch-size 4 --outdir run --steps 1"
    fake_step(monkeypatch, [1.0])
    assert training.main(flags.split()) == 0
    home.rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    Path("data").rename("images_of_mine")
    Path("run").rename("run_of_mine")
    assert "data" in run_error(capsys, "--resume", "run_of_mine", "--steps", 3)
    fake_step(monkeypatch, [1.0] * 2)
    there = ["--srcdir", "images_of_mine:2", "--valdir", "val"]
    assert training.main(["--resume", "run_of_mine", "--steps", "3", *there]) == 0
    saved = utils.read_config("run_of_mine")["flags"]
    assert (saved["srcdir"], saved["valdir"], saved["logdir"]) == (["images_of_mine:2"], ["val"], "run_of_mine/log")
    assert saved["steps"] == 3
    assert {path.name for path in Path().iterdir()} == {"images_of_mine", "val", "run_of_mine"}
    # the same number of images is not enough
    cv2.imwrite("val/labels/0003.png", 255 - cv2.imread("val/labels/0003.png", cv2.IMREAD_GRAYSCALE))
    for what, more in (("validation", []), ("training", ["--srcdir", "images_of_mine"])):
        assert f"other {what} data" in run_error(capsys, "--resume", "run_of_mine", "--steps", 4, *more)


def test_a_run_that_is_finished_says_so(tiny_data, tmp_path, monkeypatch, capsys):
    small_run(tiny_data, tmp_path / "run", monkeypatch, [1.0] * 2, "--steps 2")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert training.main(["--resume", str(tmp_path / "run")]) == 0
    line = capsys.readouterr().out.strip()
    assert "finished at step 2, validation loss 1;" in line and f"--resume {tmp_path / 'run'} --steps 4" in line
    assert "{" not in line and len(line.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("holding", ["a model", "a run that never saved", "a file"])
def test_a_folder_that_holds_something_is_left_alone(holding, tiny_data, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    if holding == "a model":
        network = {"input_shape": [64, 96, 3]}
        utils.save_model(folder, miniature(network), {"network": network})
    else:
        folder.mkdir()
        (folder / ("config.json" if holding == "a run that never saved" else "notes.txt")).write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --steps 1 --outdir {folder}"
    assert f"--outdir {folder}: found" in run_error(capsys, *flags.split())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_runs_in_one_folder(tiny_data, tmp_path, monkeypatch, capsys):
    flags = f"--srcdir {tiny_data} --valdir {tiny_data} --modeldir none --image-size 64 96 --steps 1".split()
    with take_folder(tmp_path / "run", new=True):
        line = run_error(capsys, *flags, "--outdir", tmp_path / "run")
        assert f"in use by process {os.getpid()}" in line
    assert not (tmp_path / "run").exists()


def test_a_system_without_file_locks(tiny_data, tmp_path, monkeypatch):
    """Windows has no fcntl: runs begin all the same, and nothing is locked."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("folder_without_locks", ROOT / "run/folder.py")
    without_locks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without_locks)
    monkeypatch.setattr(training, "take_folder", without_locks.take_folder)
    assert small_run(tiny_data, tmp_path / "run", monkeypatch, [1.0], "--steps 1") == 0
    with without_locks.take_folder(tmp_path / "other", new=True):
        with without_locks.take_folder(tmp_path / "other", new=True):
            assert not list((tmp_path / "other").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-log"]


def test_the_measure_of_the_best_model_stays(tiny_data, tmp_path, monkeypatch, capsys):
    """Labels of lanes that appear between two parts of a run would change what chooses best/."""
    small_run(tiny_data, tmp_path / "run", monkeypatch, [1.0] * 2, "--steps 2")  # validation loss 1
    fake_step(monkeypatch, [1.0] * 2)
    scored = {**dict.fromkeys(training.loss_terms(()), 2.0), "Accuracy": 1.0, "FP": 0.0, "FN": 0.0}
    monkeypatch.setattr(training.Validation, "run", lambda self: scored)
    assert "labels for score, expected those for loss" in run_error(capsys, "--resume", tmp_path / "run", "--steps", 4)


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
