"""From an image to its instances: a model made ready for inference, its outputs, and their clusters."""

import contextlib

import numpy as np
import tensorflow as tf
from joblib import cpu_count

import utils
from clustering import BANDWIDTH, THRESHOLD, find_instances
from datagenerator import network_size, prepare_image
from export.folding import fold_batch_norm


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def use_cores():
    """Give every core an image of its own; returns how many that are, the images to work on at a time.

    ENet's operations are so small that sharing one among two cores makes it only 1.4 times faster: without a GPU
    TensorFlow is told to run every operation in one thread, if it has not started already.
    """
    if not has_gpu():
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already
            tf.config.threading.set_intra_op_parallelism_threads(1)
    return cpu_count()


class Network:
    """A model made ready for images of any size."""

    def __init__(self, model, size=None, keep_aspect=False, jit=False):
        """Take a model; it is compiled with its first image.

        Args:
            model: keras.Model of `enet.build_enet`, with `keep_aspect` one whose size is open.
            size: (H, W) it sees images at; default that of its input.
            keep_aspect: images keep their proportions, see `datagenerator.network_size`.
            jit: compile it with XLA, for every size anew; else sizes after the first share one graph.
        """
        self.outputs, self.keep_aspect = tuple(model.output), keep_aspect
        self.size = tuple(size or model.input_shape[1:3])
        self._run = tf.function(
            lambda batch: model(batch, training=False), jit_compile=jit or None, reduce_retracing=not jit
        )

    def predict(self, image):
        """Run the network on one image.

        Args:
            image: (h, w, 3) uint8 RGB.

        Returns:
            {"embedding": (H, W, D) float32, "semantic": (H, W, 1) float32 logits if the model has that head}.

        Raises:
            ModelError: an output that is not finite, as of a network whose training diverged.
        """
        outputs = self._outputs(prepare_image(image, network_size(image.shape, self.size, self.keep_aspect)))
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise utils.ModelError(f"the model's {name} output is NaN or infinite; retrain it or name another")
        return outputs

    def warm_up(self):
        """Compile it, so that the first image takes no longer than the others."""
        self._outputs(np.zeros((*self.size, 3), np.float32))

    def _outputs(self, image):
        return {name: value[0].numpy() for name, value in self._run(tf.constant(image[None])).items()}


def load_network(modeldir, image_size=None, jit=False):
    """The `Network` of a model folder, folded if it can be, compiled and warm.

    Args:
        modeldir: path that `utils.load_model` accepts.
        image_size: (H, W) to see every image at, default as the model was trained.
        jit: compile it with XLA.

    Raises:
        ModelError: no model there, or one that can't be built or run.
    """
    try:
        folder = utils.model_folder(modeldir)
        network, keep_aspect = utils.read_network(folder), not image_size and utils.read_keep_aspect(folder)
        model = utils.load_model(folder, (None, None) if keep_aspect else image_size)
        if not network.get("image_statistics"):
            model = fold_batch_norm(model)
        result = Network(model, image_size or network["input_shape"][:2], keep_aspect, jit)
        result.warm_up()
    except (utils.ModelError, OSError):
        raise
    except (ValueError, TypeError, RecursionError, tf.errors.OpError) as error:  # a config that makes no sense
        reason = " ".join(str(error).split())[:200]
        raise utils.ModelError(
            f"--modeldir {modeldir}: its network can't be built or run ({reason}); restore it or name another"
        ) from None
    return result


def require_head(network, modeldir, **flags):
    """Raise ModelError if a flag that needs the semantic head is given (not None) and the network has no such head."""
    for flag, value in flags.items():
        if value is not None and "semantic" not in network.outputs:
            raise utils.ModelError(f"--{flag}: found a model without semantic head in {modeldir}; leave --{flag} out")


def segment(network, image, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast", confidence=0.0):
    """Instances of one image.

    Args:
        network: `Network`.
        image: (h, w, 3) uint8 RGB of any size.
        bandwidth, threshold, method, confidence: see `clustering.find_instances`.

    Returns:
        (H, W) int32 label map at the size at which the network sees the image, 0 = background.

    Raises:
        ModelError: as `Network.predict`.
    """
    return find_instances(network.predict(image), bandwidth, threshold, method, confidence)
