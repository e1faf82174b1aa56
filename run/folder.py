"""The run folder of training.py: log, checkpoint, best and last model."""

import contextlib
import json
import math
import shutil
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
except ImportError:  # on Windows folders aren't locked
    fcntl = None

LOG_FILE = "log.jsonl"
LOCK_FILE = ".lock"


@contextlib.contextmanager
def take_folder(outdir, new):
    """Make the run folder and keep other runs out for the block; a `new` run's has to be new or empty.

    Without a checkpoint at the end it goes again.
    """
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    with open(outdir / LOCK_FILE, "a", encoding="utf-8") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{outdir}: found another run at work in it; wait or name another folder") from None
        try:
            content = sorted(path.name for path in outdir.iterdir() if path.name != LOCK_FILE)
            if new and content:
                new = False
                found = f"--outdir {outdir}: found {content[0]} in it, expected a new or empty folder"
                raise UserError(f"{found}; name another, or go on by --resume {outdir}")
            yield
        finally:
            with contextlib.suppress(PermissionError):  # on Windows: it is open
                (outdir / LOCK_FILE).unlink(missing_ok=True)
            if new and not (outdir / CHECKPOINT_FILE).exists():
                shutil.rmtree(outdir, ignore_errors=True)


class Run:
    """A run folder and what changes during the run: weights, optimizer, averages, and the checkpoint's `state`.

    `state`: step, data, the last validation, measure and least value so far of `figure_of_merit`, seconds, and sums
    and count of the training losses since the last validation.
    """

    def __init__(self, outdir, config, data, model, optimizer, averages=None, chief=True):
        """Take `config.json`'s content, a dict of `pairs.describe_pairs`, a built optimizer.

        `chief`: whether this process writes; of several workers one does.
        """
        self.outdir, self.config, self.chief = Path(outdir), config, chief
        self.model, self.optimizer, self.averages = model, optimizer, averages
        self.start = time.time()
        self.state = {"step": 0, "data": data, "measure": None, "best": math.inf, "seconds": 0.0}
        self.names = (*loss_terms(model.output), "gradient_norm")
        self.state |= {"sums": [0.0] * len(self.names), "count": 0}
        self.variables = checkpoint_variables(model, optimizer, averages)

    @property
    def step(self):
        return self.state["step"]

    def load(self):
        """Go back to the checkpoint; later steps leave the log: they come again."""
        found = self.state["data"]
        self.state |= load_checkpoint(self.outdir, self.variables)
        for kind, data in self.state["data"].items():
            if found[kind] != data:
                raise UserError(
                    f"--resume {self.outdir}: found other {kind} data ({found[kind]['images']} images for "
                    f"{data['images']}), expected the same; restore or name them by --srcdir and --valdir"
                )
        path = self.outdir / LOG_FILE
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            utils.write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= self.step))

    def count(self, terms):
        """Note losses and gradient norm of a step; returns its number."""
        self.state["step"] += 1
        self.state["sums"] = (np.array(self.state["sums"]) + terms).tolist()
        self.state["count"] += 1
        return self.step

    def means(self):
        """Means since the last validation, {name: value}."""
        means = np.array(self.state["sums"]) / max(1, self.state["count"])
        return dict(zip(self.names, means.round(5).tolist(), strict=True))

    def finish_epoch(self, epoch, validation, log):
        """Validate, log and save; `epoch` is a float."""
        state = self.state
        train, state["sums"], state["count"] = self.means(), [0.0] * len(state["sums"]), 0
        state["seconds"] += time.time() - self.start
        self.start = time.time()
        if not self.chief:
            return
        with self.averages or contextlib.nullcontext():
            state["validation"] = validation.run()
        measure, merit = figure_of_merit(state["validation"])
        if state["measure"] != measure:  # labels.json came or went
            state |= {"measure": measure, "best": math.inf}
        best, state["best"] = merit < state["best"], min(merit, state["best"])
        rate = float(self.optimizer.learning_rate)
        row = {"step": self.step, "epoch": round(epoch, 3), "seconds": round(state["seconds"], 1), "lr": rate}
        log.scalars("train", self.step, {**train, "learning_rate": rate})
        log.scalars("validation", self.step, state["validation"])
        self.save(best, {**row, "train": train, "val": state["validation"]})

    def save(self, best=False, row=()):
        """Write last/ (and best/), the checkpoint and a row of the log; only the chief does."""
        if not self.chief:
            return
        seconds = round(self.state["seconds"] + time.time() - self.start)
        config = {**self.config, "step": self.step, "seconds": seconds, "validation": self.state.get("validation")}
        try:
            if row:
                with open(self.outdir / LOG_FILE, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            with self.averages or contextlib.nullcontext():
                for name in ("best", "last") if best else ("last",):
                    utils.save_model(self.outdir / name, self.model, config)
            save_checkpoint(self.outdir, self.variables, self.state)
        except OSError as error:
            raise UserError(
                f"{self.outdir}: step {self.step} could not be saved ({error.strerror or error}), the last checkpoint "
                f"is intact; make room or fix the rights, then --resume {self.outdir}"
            ) from None


def _step_of(line):
    """Step of a line of the log, infinity if cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
