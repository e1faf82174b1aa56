"""The run folder of training.py: log, checkpoint, best and last model, and the state to go on from."""

import contextlib
import json
import math
import time
from pathlib import Path

import numpy as np

import utils
from datagenerator import DataError
from run.train_step import PARTS
from run.validation import figure_of_merit

LOG_FILE = "log.jsonl"


class Run:
    """A run folder and what changes during the run: weights, optimizer, averages, and `state`.

    `state` is saved with the checkpoint: step, seconds, the last validation, the best figure of merit so far, and sum
    and number of the training losses since the last validation.
    """

    def __init__(self, outdir, model, optimizer, averages=None):
        self.outdir, self.model, self.optimizer, self.averages = outdir, model, optimizer, averages
        self.config, self.start, self.saved = {}, time.time(), None
        self.state = {"step": 0, "best": math.inf, "seconds": 0.0, "sums": [0.0] * (len(PARTS) + 1), "count": 0}

    def load(self):
        """Go back to the folder's checkpoint; what the log tells of later steps is taken out, they come again."""
        self.state |= utils.load_checkpoint(self.outdir, self.model, self.optimizer, self._more())
        self.saved = self.state["step"]
        path = self.outdir / LOG_FILE
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= self.saved]
            with utils.replacing(path) as temporary:
                Path(temporary).write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def _more(self):
        return [*self.averages.variables, self.averages.count] if self.averages else []

    def count(self, parts):
        """Note the losses and gradient norm of one more step; returns its number."""
        self.state["step"] += 1
        self.state["sums"] = (np.array(self.state["sums"]) + parts).tolist()
        self.state["count"] += 1
        return self.state["step"]

    def means(self):
        """Mean training losses and gradient norm since the last validation."""
        means = np.array(self.state["sums"]) / max(1, self.state["count"])
        return dict(zip((*PARTS, "gradient_norm"), means.round(5).tolist(), strict=True))

    def finish_epoch(self, validation, log, epoch):
        """Validate, write a line to the log, keep the model if it is the best so far, save."""
        state = self.state
        best = False
        if validation:  # the chief's
            with self._averaged():
                state["validation"] = validation.run()
            best = figure_of_merit(state["validation"]) < state["best"]
            state["best"] = min(figure_of_merit(state["validation"]), state["best"])
        train, state["sums"], state["count"] = self.means(), [0.0] * len(state["sums"]), 0
        state["seconds"] += time.time() - self.start
        self.start = time.time()
        if validation:
            rate = float(self.optimizer.learning_rate)
            row = {"step": state["step"], "epoch": round(epoch, 3), "seconds": round(state["seconds"], 1), "lr": rate}
            row |= {"train": train, "val": state["validation"]}
            with self._writing(), open(self.outdir / LOG_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            log.scalars("train", state["step"], {**train, "learning_rate": rate})
            log.scalars("validation", state["step"], state["validation"])
        self.save(validation is not None, best)

    def save(self, chief=True, best=False):
        """Write the model to last/ (and best/) and the checkpoint; only on the chief."""
        if not chief:
            return
        state = self.state
        here = {
            **self.config,
            "step": state["step"],
            "seconds": round(state["seconds"] + time.time() - self.start),
            "validation": state.get("validation"),
        }
        with self._writing():
            with self._averaged():
                for name in ("best", "last") if best else ("last",):
                    utils.save_model(self.outdir / name, self.model, here)
            utils.save_checkpoint(self.outdir, self.model, self.optimizer, state, self._more())
        self.saved = state["step"]

    def _averaged(self):
        return self.averages or contextlib.nullcontext()

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            kept = f"the checkpoint of step {self.saved} is intact" if self.saved else "there is no checkpoint yet"
            raise DataError(
                f"{self.outdir}: step {self.state['step']} could not be saved ({error.strerror or error}); {kept}; "
                f"make room or fix the folder's rights, then go on with --resume {self.outdir}"
            ) from None


def _step_of(line):
    """Step of a line of the log; infinity for one that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
