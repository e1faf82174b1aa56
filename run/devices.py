"""Devices and machines of a run: distribution strategies, seeds, precision, lost workers."""

import contextlib
import ctypes
import json
import os
import sys
import time

import keras
import tensorflow as tf

from run.command import UserError

STRATEGIES = ("none", "mirrored", "multiworker")
# raised on the other workers when one is gone
LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError)
MOST_RESTARTS = 6
RESTARTS = "TRAINING_RESTARTS"  # environment variable: step and number of restarts there
TF_CONFIG = 'JSON like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


def make_strategy(name, batch_size):
    """The tf.distribute strategy of one of `STRATEGIES`; has to come before TensorFlow starts its devices."""
    if name == "mirrored":
        strategy = tf.distribute.MirroredStrategy()
    elif name == "multiworker":
        try:
            config = json.loads(os.environ["TF_CONFIG"])
            task = config["task"]
            config["cluster"][task["type"]][int(task["index"])]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise UserError(f"TF_CONFIG: {error!r}, expected {TF_CONFIG}; set it on every worker") from None
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(f"--batch-size: found {batch_size}, expected a multiple of the {replicas} replicas; change it")
    return strategy


def set_numerics(seed, mixed_precision=False, deterministic=False):
    """Seed Keras, set the precision of layers to come, make operations repeat bit for bit."""
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed_precision else "float32")
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def keep_memory():
    """Have glibc keep freed memory: the system would clear what it gets back, page by page, for the next step."""
    with contextlib.suppress(AttributeError, TypeError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, -1)  # M_TRIM_THRESHOLD, never
        mallopt(-4, 0)  # M_MMAP_MAX, no block on its own


def rejoin(error, step):
    """Start this worker again after a TensorFlow error at `step`; it goes on from the last checkpoint.

    First it pauses 1 s, 2 s, 4 s, ..., from 1 s again once a step was made, `MOST_RESTARTS` times at most.
    """
    last_step, count = map(int, os.environ.get(RESTARTS, "0 0").split())
    count = count + 1 if step == last_step else 1
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if count > MOST_RESTARTS:
        raise UserError(
            f"--strategy multiworker: found no step in {MOST_RESTARTS} restarts ({reason}), expected all workers of "
            "TF_CONFIG to run; start them again"
        ) from None
    pause = 2 ** (count - 1)
    print(f"a worker is gone ({reason}); restart {count} of {MOST_RESTARTS} in {pause} s", file=sys.stderr)
    time.sleep(pause)
    os.environ[RESTARTS] = f"{step} {count}"
    os.execv(sys.executable, [sys.executable, *sys.argv])
