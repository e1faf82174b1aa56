"""TensorFlow 1 checkpoints of the original repo: which network they hold, and their weights copied into ours."""

import contextlib
import re

import tensorflow as tf

# Step counters and Adam's slots: variables that a model doesn't need
NOT_NEEDED = re.compile(r"(^|/)(Variable|global_step|beta[12]_power)(_\d+)?$|/Adam(_\d+)?$")


class CheckpointError(ValueError):
    """A checkpoint that can't be used; the message names it, what was found and what was expected."""


def network_arguments(folder):
    """Arguments of `enet.build_enet` for the network of a checkpoint.

    Args:
        folder: pathlib.Path of the checkpoint's folder.

    Raises:
        CheckpointError: a checkpoint that can't be read.
    """
    head = _open_checkpoint(folder).get_variable_to_shape_map().get("Instance/transfer_layer/conv2d_transpose/weights")
    return {
        "input_shape": [512, 512, 3],
        "embedding_dim": head[2] if head else 3,
        "semantic": head is None,
        "rescale": 1,
        "embedding_activation": "relu",
        "picture_statistics": True,
    }


def _open_checkpoint(folder):
    """Reader of the TensorFlow 1 checkpoint in `folder`, the one that its `checkpoint` file names, else the newest."""
    prefixes = sorted(folder.glob("*.index"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)[-1:]])
    chosen = prefixes[-1].with_suffix("")
    with contextlib.suppress(OSError):
        named = re.search(r'^model_checkpoint_path: "(.*)"', (folder / "checkpoint").read_text(), re.MULTILINE)
        # the path is that of the machine that wrote it: only the name counts
        name = re.split(r"[\\/]", named.group(1))[-1] if named else ""
        if name and (folder / f"{name}.index").is_file():
            chosen = folder / name
    try:
        return tf.train.load_checkpoint(str(chosen))
    except (tf.errors.OpError, ValueError) as error:
        raise CheckpointError(f"{chosen}: {str(error).splitlines()[0]}, expected a TensorFlow 1 checkpoint") from None


def original_name(layer, variable):
    """Name in the original's checkpoints of a variable of our network: `layer` and `variable` are Keras names."""
    if layer == "embedding":
        return f"Instance/transfer_layer/conv2d_transpose/{'weights' if variable == 'kernel' else 'biases'}"
    if variable == "alpha":
        return f"ENet/{layer}alpha"
    if variable in ("beta", "moving_mean", "moving_variance"):
        # the upsampling blocks' first batch norm lacks an underscore there
        layer = re.sub(r"^(bottleneck[45]_0)_batch_norm1$", r"\1batch_norm1", layer)
        return f"ENet/{layer}/{variable}"
    if layer.endswith("_transposed_conv2"):
        return f"ENet/{layer}_filters"
    return f"ENet/{layer}/{'weights' if variable == 'kernel' else 'biases'}"


def copy_weights(model, folder, fresh_head):
    """Copy an original checkpoint into a model.

    Args:
        model: keras.Model of `enet.build_enet`, built for `network_arguments`.
        folder: pathlib.Path of the checkpoint's folder.
        fresh_head: accept a checkpoint without embedding head: the model keeps its own. Where there is one, the
            12-class semantic head is not needed.

    Raises:
        CheckpointError: no such checkpoint, or not one of the original's ENet.
    """
    reader = _open_checkpoint(folder)
    shapes = {n: s for n, s in reader.get_variable_to_shape_map().items() if not NOT_NEEDED.search(n)}
    head = {kind: f"ENet/fullconv/{kind}" for kind in ("weights", "biases")}
    has_embedding = any(name.startswith("Instance/") for name in shapes)
    if not has_embedding and not fresh_head:
        raise CheckpointError(
            f"{folder}: found a semantic checkpoint without embedding head, expected one with it; "
            "it can only be trained from: training.py --modeldir"
        )
    problems, used = [], set(head.values())
    for layer in model.layers:
        if layer.name == "semantic":
            if shapes.get(head["weights"], [0, 0, 0])[2] == 2:
                # a softmax over two classes is a sigmoid of the difference of their logits
                weights, biases = (reader.get_tensor(head[kind]) for kind in ("weights", "biases"))
                layer.set_weights([weights[:, :, 1:] - weights[:, :, :1], biases[1:] - biases[:1]])
            continue
        if layer.name == "embedding" and not has_embedding:
            continue
        for variable in layer.weights:
            name = original_name(layer.name, variable.name)
            used.add(name)
            expected = [variable.shape[-1]] if variable.name == "alpha" else list(variable.shape)
            if shapes.get(name) != expected:
                problems.append(f"{name} {'missing' if name not in shapes else shapes[name]} instead of {expected}")
            else:
                variable.assign(reader.get_tensor(name).reshape(variable.shape))
    problems += [f"{name} not known" for name in sorted(shapes.keys() - used)]
    if problems:
        raise CheckpointError(f"{folder}: the checkpoint is not of the original's ENet: {'; '.join(problems)}")
