"""The run folder of training.py: log, checkpoint, best and last model, and the state to go on from."""

import contextlib
import json
import math
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np

import utils
from run.checkpoint import CHECKPOINT_FILE, checkpoint_variables, load_checkpoint, save_checkpoint
from run.command import UserError
from run.train_step import loss_terms
from run.validation import figure_of_merit

try:
    import fcntl
except ImportError:  # Windows: there folders aren't locked
    fcntl = None

LOG_FILE = "log.jsonl"
LOCK_FILE = ".lock"


@contextlib.contextmanager
def take_folder(outdir, new):
    """Make the run folder and keep other runs out of it for the block; a `new` one has to be new or empty.

    What a new one holds without a checkpoint when the block ends goes: the run never began.

    Raises:
        UserError: it can't be written, another process has it, or `new` and it holds something.
    """
    check_writable("--outdir", outdir)
    outdir = Path(outdir)
    absent = [folder for folder in (outdir, *outdir.parents) if not folder.exists()]
    outdir.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(outdir):
            content = sorted(path.name for path in outdir.iterdir() if path.name != LOCK_FILE)
            if new and content:
                raise UserError(
                    f"--outdir {outdir}: found {content[0]} in it, expected a new or empty folder; go on with a run "
                    f"there by --resume {outdir}, or name another folder"
                )
            try:
                yield
            finally:
                if new and not (outdir / CHECKPOINT_FILE).exists():
                    for path in outdir.iterdir():
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        for folder in absent:
            with contextlib.suppress(OSError):  # not empty: it stays
                folder.rmdir()


def check_writable(flag, folder):
    """Raise UserError unless one can write to a folder, or make it."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise UserError(f"{flag}: found that {existing} is no folder to write to, expected one; name another")


@contextlib.contextmanager
def _locked(outdir):
    """Hold the lock of a folder for the block, where the system has such locks."""
    if fcntl is None:
        yield
        return
    lock = outdir / LOCK_FILE
    with open(lock, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{outdir}: found it in use by {file.read().strip() or 'another process'}, expected a folder of this "
                "run alone; wait for that run or name another folder with --outdir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


class Run:
    """A run folder and what changes during the run: weights, optimizer, averages, and `state`.

    `state` is saved with the checkpoint: step, data, the last validation, what measures the best model (see
    `validation.figure_of_merit`) and its best value so far, seconds, and sum and number of the training losses since
    the last validation.
    """

    def __init__(self, outdir, config, data, model, optimizer, averages=None, chief=True):
        """Take up what is to be saved; nothing is read or written yet.

        `config` is the content of `config.json`, `data` that of `pairs.Data.describe`, the optimizer is built, and
        `chief` tells whether this process writes: of several workers one does.
        """
        self.outdir, self.config, self.chief = Path(outdir), config, chief
        self.model, self.optimizer, self.averages = model, optimizer, averages
        self.start, self.saved = time.time(), None
        self.state = {"step": 0, "data": data, "measure": None, "best": math.inf, "seconds": 0.0}
        self.state |= {"sums": [0.0] * (len(loss_terms(model.output)) + 1), "count": 0}

    @property
    def step(self):
        """Optimizer steps made so far."""
        return self.state["step"]

    def load(self):
        """Go back to the folder's checkpoint; what the log tells of later steps is taken out, they come again.

        Raises UserError if no checkpoint fits, or the data are not those of the checkpoint.
        """
        found = self.state["data"]
        self.state |= load_checkpoint(self.outdir, self._variables())
        for kind, data in self.state["data"].items():
            if found[kind] != data:
                raise UserError(
                    f"--resume {self.outdir}: found other {kind} data ({found[kind]['images']} images) than when it "
                    f"started ({data['images']}), expected the same files; restore them, name them by --srcdir and "
                    "--valdir, or start a new run"
                )
        self.saved = self.step
        path = self.outdir / LOG_FILE
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            utils.write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= self.saved))

    def _variables(self):
        return checkpoint_variables(self.model, self.optimizer, self.averages)

    def count(self, terms):
        """Note the losses and gradient norm of one more step; returns its number."""
        self.state["step"] += 1
        self.state["sums"] = (np.array(self.state["sums"]) + terms).tolist()
        self.state["count"] += 1
        return self.step

    def means(self):
        """Mean training losses and gradient norm since the last validation."""
        means = np.array(self.state["sums"]) / max(1, self.state["count"])
        names = (*loss_terms(self.model.output), "gradient_norm")
        return dict(zip(names, means.round(5).tolist(), strict=True))

    def finish_epoch(self, epoch, validation, log):
        """Validate, write a line to the log, keep the model if it is the best so far, save.

        `epoch` are the rounds over the training images so far; the `Validation` and `SummaryLog` are the chief's.
        """
        state, best = self.state, False
        train, state["sums"], state["count"] = self.means(), [0.0] * len(state["sums"]), 0
        state["seconds"] += time.time() - self.start
        self.start = time.time()
        if self.chief:
            with self._averaged():
                state["validation"] = validation.run()
            measure, merit = figure_of_merit(state["validation"])
            if state["measure"] not in (None, measure):
                raise UserError(
                    f"--valdir: found labels for {measure}, expected those for {state['measure']} of the run's "
                    "beginning; restore labels.json"
                )
            state["measure"] = measure
            best, state["best"] = merit < state["best"], min(merit, state["best"])
            rate = float(self.optimizer.learning_rate)
            row = {"step": self.step, "epoch": round(epoch, 3), "seconds": round(state["seconds"], 1), "lr": rate}
            row |= {"train": train, "val": state["validation"]}
            with self._writing(), open(self.outdir / LOG_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            log.scalars("train", self.step, {**train, "learning_rate": rate})
            log.scalars("validation", self.step, state["validation"])
        self.save(best)

    def save(self, best=False):
        """Write the model to last/ (and best/) and the checkpoint; only on the chief."""
        if not self.chief:
            return
        state = self.state
        seconds = round(state["seconds"] + time.time() - self.start)
        config = {**self.config, "step": self.step, "seconds": seconds, "validation": state.get("validation")}
        with self._writing():
            with self._averaged():
                for name in ("best", "last") if best else ("last",):
                    utils.save_model(self.outdir / name, self.model, config)
            save_checkpoint(self.outdir, self._variables(), state)
        self.saved = self.step

    def _averaged(self):
        return self.averages or contextlib.nullcontext()

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            state = f"the checkpoint of step {self.saved} is intact" if self.saved else "there is no checkpoint yet"
            raise UserError(
                f"{self.outdir}: step {self.step} could not be saved ({error.strerror or error}); {state}; "
                f"make room or fix the folder's rights, then go on with --resume {self.outdir}"
            ) from None


def _step_of(line):
    """Step of a line of the log; infinity for one that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
