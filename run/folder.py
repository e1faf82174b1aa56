"""The run folder of training.py: log, checkpoint, best and last model, and the state to go on from."""

import contextlib
import json
import math
import time

import numpy as np

import utils
from datagenerator import DataError
from run.train_step import LOSS_TERMS
from run.validation import figure_of_merit

LOG_FILE = "log.jsonl"


class Run:
    """A run folder and what changes during the run: weights, optimizer, averages, and `state`.

    `state` is saved with the checkpoint: step, seconds, the last validation, the best figure of merit so far, and sum
    and number of the training losses since the last validation.
    """

    def __init__(self, outdir, config, model, optimizer, averages=None, chief=True):
        """Take up what is to be saved; nothing is read or written yet.

        Args:
            outdir: run folder.
            config: what `config.json` says of the run.
            model: keras.Model.
            optimizer: keras optimizer, built.
            averages: `WeightAverages` or None.
            chief: whether this process writes; of several workers one does.
        """
        self.outdir, self.config, self.chief = outdir, config, chief
        self.model, self.optimizer, self.averages = model, optimizer, averages
        self.start, self.saved = time.time(), None
        self.state = {"step": 0, "best": math.inf, "seconds": 0.0, "sums": [0.0] * (len(LOSS_TERMS) + 1), "count": 0}

    @property
    def step(self):
        """Optimizer steps made so far."""
        return self.state["step"]

    def load(self):
        """Go back to the folder's checkpoint; what the log tells of later steps is taken out, they come again."""
        self.state |= utils.load_checkpoint(self.outdir, self._variables())
        self.saved = self.step
        path = self.outdir / LOG_FILE
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= self.saved]
            utils.write_text(path, "".join(f"{line}\n" for line in kept))

    def _variables(self):
        named = utils.checkpoint_variables(self.model, self.optimizer)
        return {**named, **(self.averages.named_variables() if self.averages else {})}

    def count(self, terms):
        """Note the losses and gradient norm of one more step; returns its number."""
        self.state["step"] += 1
        self.state["sums"] = (np.array(self.state["sums"]) + terms).tolist()
        self.state["count"] += 1
        return self.step

    def means(self):
        """Mean training losses and gradient norm since the last validation."""
        means = np.array(self.state["sums"]) / max(1, self.state["count"])
        return dict(zip((*LOSS_TERMS, "gradient_norm"), means.round(5).tolist(), strict=True))

    def finish_epoch(self, epoch, validation, log):
        """Validate, write a line to the log, keep the model if it is the best so far, save.

        Args:
            epoch: rounds over the training images so far.
            validation: `Validation`; None on workers that don't write.
            log: `SummaryLog`, likewise.
        """
        state, best = self.state, False
        train, state["sums"], state["count"] = self.means(), [0.0] * len(state["sums"]), 0
        state["seconds"] += time.time() - self.start
        self.start = time.time()
        if self.chief:
            with self._averaged():
                state["validation"] = validation.run()
            best = figure_of_merit(state["validation"]) < state["best"]
            state["best"] = min(figure_of_merit(state["validation"]), state["best"])
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
        here = {
            **self.config,
            "step": self.step,
            "seconds": round(state["seconds"] + time.time() - self.start),
            "validation": state.get("validation"),
        }
        with self._writing():
            with self._averaged():
                for name in ("best", "last") if best else ("last",):
                    utils.save_model(self.outdir / name, self.model, here)
            utils.save_checkpoint(self.outdir, self._variables(), state)
        self.saved = self.step

    def _averaged(self):
        return self.averages or contextlib.nullcontext()

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            kept = f"the checkpoint of step {self.saved} is intact" if self.saved else "there is no checkpoint yet"
            raise DataError(
                f"{self.outdir}: step {self.step} could not be saved ({error.strerror or error}); {kept}; "
                f"make room or fix the folder's rights, then go on with --resume {self.outdir}"
            ) from None


def _step_of(line):
    """Step of a line of the log; infinity for one that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
