"""The network as XNNPACK runs it: against Keras, its file in the cache, int8."""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from conftest import draw_scene, miniature, save_miniature
from test_enet import assert_close, shake

import utils
from enet import build_enet
from export import __main__ as export_command
from pipeline import lite, segmentation
from run.command import UserError


def noise(*size, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (1, *size, 3)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"coordinate_scale": 5.0, "semantic": False, "skip_connections": True}])
def test_one_file_takes_every_size(options):
    """As Keras; the same bits from one thread and from two, and from several images at a time."""
    model = shake(build_enet((None, None, 3), stage_two_repeat=1, **options))
    scale = options.get("coordinate_scale")
    content = lite.convert(model)
    one, two = (lite.LiteModel(content, scale, threads) for threads in (1, 2))
    images = [noise(*size, seed=size[1]) for size in ((64, 96), (8, 8), (72, 24), (120, 160), (64, 96))]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(one, images))
    for image, outputs in zip(images, results, strict=True):
        assert set(outputs) == set(model.output) == set(one.output)
        for name, value in model(image, training=False).items():
            assert_close(outputs[name], value)
            np.testing.assert_array_equal(two(image)[name], outputs[name])


def test_a_network_that_comes_out_wrong_is_not_taken(monkeypatch):
    monkeypatch.setattr(lite, "make_interpreter", lambda content: lambda image: {"embedding": image, "semantic": image})
    monkeypatch.setattr(lite, "convert_to_tflite", lambda *_: b"")
    with pytest.raises(ValueError, match="off by"):
        lite.convert(miniature({"input_shape": [None, None, 3]}))


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Model folder of a miniature and the empty cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(utils, "build_model", miniature)
    return save_miniature(tmp_path / "model")


def cached(model):
    return lite.cache_file(model, utils.read_network(model))


def test_converted_once(model, capsys, monkeypatch):
    image = noise(64, 96)
    first = lite.load_lite_model(model)(image)
    assert "converting" in capsys.readouterr().err and cached(model).is_file()
    monkeypatch.setattr(lite, "convert", None)
    second = lite.load_lite_model(model)(image)
    assert capsys.readouterr().err == ""
    for name, value in utils.load_model(model)(image).items():
        assert_close(first[name], value)
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:500] + b"x" + data[501:], lambda data: b""]
)
def test_broken_files_are_never_opened(damage, model, monkeypatch):
    lite.load_lite_model(model)
    path, opened = cached(model), []
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    make = lite.make_interpreter
    monkeypatch.setattr(lite, "make_interpreter", lambda *args: opened.append(args[0]) or make(*args))
    assert lite.load_lite_model(model)(noise(64, 96))["embedding"].shape == (1, 64, 96, 3)
    assert opened and broken[32:] not in opened and lite.read(path) == opened[-1]


def test_a_cache_that_can_not_be_written(model, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert lite.load_lite_model(model)(noise(8, 8))["semantic"].shape == (1, 8, 8, 1)
    assert f"not kept in {tmp_path / 'file'}" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"


def test_few_files_are_kept_and_no_others_touched(tmp_path):
    (tmp_path / "mine.tflite").write_text("mine")
    paths = [tmp_path / f"{number:064x}.tflite" for number in range(lite.KEPT + 3)]
    for number, path in enumerate(paths):
        lite.keep(path, b"network")
        os.utime(path, (number, number))
    assert {*tmp_path.iterdir()} == {tmp_path / "mine.tflite", *paths[3:]}


def test_what_runs_is_said(model, capsys, monkeypatch):
    load, image = segmentation.load_network, draw_scene(np.random.default_rng(0))[0]
    outputs = {}
    for name, options in (("XNNPACK", {}), ("TensorFlow graph", {"jit": True})):
        outputs[name] = load(model, threads=1, **options).predict(image)
        assert f"network: {model}, {name}\n" in capsys.readouterr().err
    for name, value in outputs["XNNPACK"].items():
        assert_close(value, outputs["TensorFlow graph"][name])

    def fail(model):
        raise RuntimeError("no such operation")

    cached(model).unlink()
    monkeypatch.setattr(lite, "convert", fail)
    load(model, threads=2)
    error = capsys.readouterr().err
    assert "no such operation" in error and f"{model}, TensorFlow graph\n" in error


def test_int8(model, tmp_path, capsys, monkeypatch):
    with pytest.raises(UserError, match=f"{model}.*python -m export"):
        segmentation.load_network(model, int8=True)
    (tmp_path / "images").mkdir()
    scenes = [draw_scene(np.random.default_rng(seed), (64, 96))[0] for seed in range(3)]
    for number, scene in enumerate(scenes):
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), cv2.resize(scene, (60, 100)))
    export_command.main(f"{model} {tmp_path / 'a.tflite'} --format tflite --int8 {tmp_path / 'images'}".split())
    found = segmentation.load_network(model, int8=True).predict(scenes[0])
    assert "XNNPACK, int8\n" in capsys.readouterr().err
    for name, value in utils.load_model(model)(scenes[0][None]).items():
        assert 1e-4 < np.abs(found[name] - value[0]).mean() / np.abs(value).max() < 0.05
