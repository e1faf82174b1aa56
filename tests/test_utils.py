"""Model folders: saved with their config, loaded from it, and never half-written."""

import json

import keras
import numpy as np
import pytest
from conftest import miniature

import utils
from run.checkpoint import checkpoint_variables, load_checkpoint, save_checkpoint
from run.command import UserError

NETWORK = {"input_shape": [16, 24, 3], "embedding_dim": 2, "semantic": True, "stage_two_repeat": 1}


@pytest.fixture(scope="module")
def built():
    model = utils.build_model(NETWORK)
    return model, model.get_weights()


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Folder of a `miniature`, and the model."""
    monkeypatch.setattr(utils, "build_model", miniature)
    model = miniature(NETWORK)
    utils.save_model(tmp_path / "model", model, {"network": NETWORK})
    return tmp_path / "model", model


def test_model_comes_back_equal(built, tmp_path):
    model, weights = built
    model.set_weights(weights)
    folder = tmp_path / "model"
    utils.save_model(folder, model, {"network": NETWORK})
    image = np.random.default_rng(0).uniform(0, 255, (1, 16, 24, 3)).astype(np.float32)
    for name, value in utils.load_model(folder)(image).items():
        np.testing.assert_array_equal(value, model(image)[name])


def test_config_with_a_byte_order_mark_and_an_argument_of_earlier_versions(saved):
    folder, _ = saved
    config = json.dumps({"network": {**NETWORK, "refinement": 0}})
    (folder / "config.json").write_text(config, encoding="utf-8-sig")  # as Notepad and PowerShell write one
    assert utils.read_config(folder) == {"network": NETWORK}


def test_run_folder_gives_best_before_last(saved, tmp_path):
    folder, model = saved
    assert utils.model_folder(folder) == folder
    folder.rename(tmp_path / "last")
    assert utils.model_folder(tmp_path) == tmp_path / "last"
    utils.save_model(tmp_path / "best", model, {"network": {}})
    assert utils.model_folder(tmp_path) == tmp_path / "best"


def built_adam(model):
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    return optimizer


def test_checkpoint_restores_weights_optimizer_and_state(built, tmp_path):
    model, _ = built
    optimizer = built_adam(model)
    optimizer.apply([np.ones(v.shape, np.float32) for v in model.trainable_variables])
    save_checkpoint(tmp_path, checkpoint_variables(model, optimizer), {"step": 7})
    expected = [np.array(v) for v in [*model.variables, *optimizer.variables]]

    other = utils.build_model(NETWORK)
    second = built_adam(other)
    assert load_checkpoint(tmp_path, checkpoint_variables(other, second)) == {"step": 7}
    for value, variable in zip(expected, [*other.variables, *second.variables], strict=True):
        np.testing.assert_array_equal(value, variable)
    # with dropout there are random generators, whose states belong to it
    names = checkpoint_variables(model, optimizer)
    assert len(names) == len(expected) and sum(name.endswith("/seed") for name in names) == 19

    small = miniature(NETWORK)
    with pytest.raises(UserError, match="expected this run's checkpoint"):
        load_checkpoint(tmp_path, checkpoint_variables(small, built_adam(small)))


def test_checkpoint_matches_by_name_whatever_the_order(saved, tmp_path):
    """Two variables of one shape keep their own values."""
    _, model = saved
    variables = checkpoint_variables(model, built_adam(model))
    first, second = "model/norm/beta", "model/norm/moving_mean"
    for number, name in enumerate((first, second), start=1):
        variables[name].assign(np.full(variables[name].shape, number))
    save_checkpoint(tmp_path, variables, {})
    backwards = dict(reversed(variables.items()))
    for variable in variables.values():
        variable.assign(np.zeros(variable.shape))
    load_checkpoint(tmp_path, backwards)
    assert (np.array(variables[first]) == 1).all() and (np.array(variables[second]) == 2).all()
    renamed = {name.replace("norm/beta", "norm/gamma"): variable for name, variable in variables.items()}
    with pytest.raises(UserError, match="norm/gamma"):
        load_checkpoint(tmp_path, renamed)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    utils.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), utils.replacing(path) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["config.json"]
