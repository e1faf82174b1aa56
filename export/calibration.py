"""Batch norm statistics of a model that never collected any: `python -m export calibrate`."""

import utils
from enet import BatchNormalization


def calibrate(modeldir, images, image_size=None):
    """Replace the moving averages of batch norm by the true averages over images.

    Every image is normalized with its own statistics on its way through the network, and the mean and variance that
    each batch norm sees are averaged over all images with equal weight.

    Args:
        modeldir: model folder whose model normalizes with image statistics (or any other).
        images: non-empty iterable of (H, W, 3) float32 network inputs.
        image_size: (H, W) of the images, default the model's own.

    Returns:
        (keras.Model that normalizes with moving averages, its network config).
    """
    source = utils.load_model(modeldir, image_size)
    network = {**utils.read_network(utils.model_folder(modeldir)), "input_shape": list(source.input_shape[1:])}
    network["image_statistics"] = False
    # without dropout, training mode differs from inference only in batch norm
    model = utils.build_model({**network, "dropout": False})
    _copy_weights(source, model)
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    for count, image in enumerate(images):
        for layer in norms:
            layer.momentum = count / (count + 1)  # makes the moving average the mean of all so far
        model(image[None], training=True)
    calibrated = utils.build_model(network)
    _copy_weights(model, calibrated)
    return calibrated, network


def _copy_weights(source, target):
    """By layer name: the order of the layers depends on whether there is dropout."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
