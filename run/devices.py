"""The devices and machines of a run: TensorFlow's distribution strategies, seeds, precision, lost workers."""

import json
import os
import sys

import keras
import tensorflow as tf

from datagenerator import DataError

STRATEGIES = ("none", "mirrored", "multiworker")
# What TensorFlow raises on the workers that are left when one is gone
LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError)
TF_CONFIG = 'JSON like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


def make_strategy(name):
    """TensorFlow's distribution strategy for "none", "mirrored" (all devices) or "multiworker" (as TF_CONFIG says).

    Has to come before anything else makes TensorFlow start its devices.

    Raises:
        DataError: TF_CONFIG is missing or can't be used.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multiworker":
        try:
            config = json.loads(os.environ["TF_CONFIG"])
            hosts, task = config["cluster"][config["task"]["type"]], config["task"]
            hosts[int(task["index"])]
        except KeyError as error:
            raise DataError(f"TF_CONFIG: found no {error}, expected {TF_CONFIG}; set it on every worker") from None
        except (ValueError, TypeError, IndexError) as error:
            raise DataError(f"TF_CONFIG: {error}, expected {TF_CONFIG}; set it on every worker") from None
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(strategy):
    """True on the process that writes: the only one, or the first of several workers."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
    )


def set_numerics(seed, mixed_precision=False, deterministic=False):
    """Seed Keras, choose the precision of the layers to come, and make operations repeatable bit for bit."""
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed_precision else "float32")
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def rejoin(error):
    """Start this worker again; it waits for the lost one and goes on from the last checkpoint."""
    print(f"a worker is gone ({type(error).__name__}); waiting for it to come back", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, *sys.argv])
