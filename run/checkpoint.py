"""What a run begins with: the weights of another model, or its own checkpoint."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

import utils
from run.command import UserError

CHECKPOINT_FILE = "checkpoint.npz"


def checkpoint_variables(model, optimizer, averages=None):
    """{name: keras.Variable} of a checkpoint, names alike in every process; dropout's random states, too."""
    named = {f"model/{v.path}": v for layer in model.layers for v in layer.weights}
    named |= {f"model/{x.name}/seed": x.seed_generator.state for x in model.layers if hasattr(x, "seed_generator")}
    named |= {f"optimizer/{v.name}": v for v in optimizer.variables}
    return named | (averages.named_variables() if averages else {})


def save_checkpoint(folder, variables, state):
    """Write `checkpoint_variables` and a JSON-able state to one file."""
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}
    with utils.replacing(Path(folder) / CHECKPOINT_FILE) as temporary, open(temporary, "wb") as file:
        np.savez(file, state=json.dumps(state), **arrays)


def load_checkpoint(folder, variables):
    """Read a checkpoint into variables of the same names; returns its state."""
    path = Path(folder) / CHECKPOINT_FILE
    try:
        with np.load(path) as saved:
            state = json.loads(str(saved["state"]))
            for name, variable in variables.items():
                variable.assign(saved[name])
            if left := set(saved.files) - variables.keys() - {"state"}:
                raise KeyError(min(left))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: {type(error).__name__}: {error}, expected this run's checkpoint; start a new run, "
            "with --modeldir from its last model"
        ) from None
    return state


def start_from(model, modeldir, classes=()):
    """Copy the weights of the model in `modeldir` into the layers of the same names of `model`.

    Heads that it lacks, of another depth or of other `classes` stay fresh; returns their names.
    """
    folder, absent_heads = utils.model_folder(modeldir), []
    if (folder / utils.MODEL_FILE).is_file():
        source = utils.load_model(folder)
    else:
        source = utils.build_model(utils.read_network(folder))
        absent_heads = utils.copy_original_weights(source, folder)
    if list(utils.read_classes(folder)) != list(classes):
        absent_heads = [*absent_heads, "classes"]
    trained = {layer.name: layer.get_weights() for layer in source.layers if layer.name not in absent_heads}
    fresh = []
    for layer in [layer for layer in model.layers if layer.weights]:
        values = trained.get(layer.name, [])
        if [value.shape for value in values] == [weight.shape for weight in layer.weights]:
            layer.set_weights(values)
        elif layer.name in ("embedding", "semantic", "classes"):
            fresh.append(layer.name)
        else:
            found = f"--modeldir {modeldir}: found no layer {layer.name} of this shape, expected the same ENet"
            raise UserError(f"{found}; name another folder, or none to start from scratch")
    return fresh
