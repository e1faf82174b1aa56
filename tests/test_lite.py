"""The network as XNNPACK runs it: against Keras at every size, its file in the cache, int8."""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from conftest import ROOT, draw_scene, miniature, save_miniature
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
    """Against Keras; the same bits from one thread and from two, and from several images at a time."""
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


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "of another model", "folder"])
def test_broken_and_foreign_files_are_never_opened(damage, model, tmp_path, capsys, monkeypatch):
    lite.load_lite_model(model)
    path, opened = cached(model), []
    data, broken = path.read_bytes(), b""
    if damage == "folder":
        path.unlink()
        (path / "mine").mkdir(parents=True)
    elif damage == "of another model":
        lite.keep(path.with_name(64 * "a" + ".tflite"), b"another network")
        broken = path.with_name(64 * "a" + ".tflite").read_bytes()
    else:
        broken = {"cut": data[:-9], "changed": data[:500] + b"x" + data[501:], "empty": b""}[damage]
    if damage != "folder":
        path.write_bytes(broken)
    make = lite.make_interpreter
    monkeypatch.setattr(lite, "make_interpreter", lambda *args: opened.append(args[0]) or make(*args))
    network = lite.load_lite_model(model)
    assert opened and broken[32:] not in opened and network(noise(64, 96))["embedding"].shape == (1, 64, 96, 3)
    error = capsys.readouterr().err
    if damage == "folder":
        assert f"not kept in {path}" in error and (path / "mine").is_dir()
    else:
        assert lite.read(path) == opened[-1]


def test_a_cache_that_can_not_be_written(model, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert lite.load_lite_model(model)(noise(8, 8))["semantic"].shape == (1, 8, 8, 1)
    assert f"not kept in {tmp_path / 'file'}" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"
    monkeypatch.delenv("XDG_CACHE_HOME")


def test_without_a_home(model, capsys, monkeypatch):
    def home():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(lite.Path, "home", home)
    assert lite.load_lite_model(model) and "found no home folder" in capsys.readouterr().err


def test_few_files_are_kept_and_no_others_touched(tmp_path):
    (tmp_path / "mine.tflite").write_text("mine")
    for number in range(lite.KEPT + 3):
        path = tmp_path / f"{number:064x}.tflite"
        lite.keep(path, b"network")
        os.utime(path, (number, number))
        lite.read(tmp_path / f"{0:064x}.tflite")  # the first is used all the time
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == lite.KEPT + 1 and {"mine.tflite", f"{0:064x}.tflite", path.name} <= names


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setattr(lite.Path, "home", lambda: tmp_path)
    cases = [
        ("linux", {"XDG_CACHE_HOME": "/x"}, lite.Path("/x")),
        ("linux", {"XDG_CACHE_HOME": "x"}, tmp_path / ".cache"),
        ("linux", {}, tmp_path / ".cache"),
        ("darwin", {}, tmp_path / "Library/Caches"),
        ("win32", {"LOCALAPPDATA": "/l"}, lite.Path("/l")),
    ]
    for platform, variables, expected in cases:
        monkeypatch.setattr(lite.sys, "platform", platform)
        monkeypatch.setattr(lite.os, "environ", variables)
        assert lite.cache_folder() == expected / lite.FOLDER


def test_what_runs_is_said(model, capsys, monkeypatch):
    """XNNPACK on a CPU; the graph with --jit, and where the conversion fails."""
    load, image = segmentation.load_network, draw_scene(np.random.default_rng(0))[0]
    outputs = {}
    for name, options in (("XNNPACK", {}), ("TensorFlow graph", {"jit": True})):
        outputs[name] = load(model, threads=1, **options).predict(image)
        assert f"network: {name}\n" in capsys.readouterr().err
    for name, value in outputs["XNNPACK"].items():
        assert_close(value, outputs["TensorFlow graph"][name])

    def fail(model):
        raise RuntimeError("no such operation")

    cached(model).unlink()
    monkeypatch.setattr(lite, "convert", fail)
    load(model, threads=2)
    error = capsys.readouterr().err
    assert "no such operation" in error and "network: TensorFlow graph\n" in error


def test_int8(model, tmp_path, capsys, monkeypatch):
    """Made by the export, near to Keras, found by --int8; an error where there is none."""
    with pytest.raises(UserError, match=f"{model}.*python -m export"):
        segmentation.load_network(model, int8=True)
    (tmp_path / "images").mkdir()
    scenes = [draw_scene(np.random.default_rng(seed), (64, 96))[0] for seed in range(3)]
    for number, scene in enumerate(scenes):
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), cv2.resize(scene, (60, 100)))
    out = tmp_path / "int8.tflite"
    flags = f"{model} {out} --format tflite --int8".split()
    export_command.main([*flags, str(tmp_path / "images")])
    found = segmentation.load_network(model, int8=True).predict(scenes[0])
    assert "network: XNNPACK, int8\n" in capsys.readouterr().err
    for name, value in utils.load_model(model)(scenes[0][None]).items():
        assert 1e-4 < np.abs(found[name] - value[0]).mean() / np.abs(value).max() < 0.05
    with pytest.raises(SystemExit):
        export_command.main([*flags, str(ROOT / "lanes"), "--overwrite"])
    assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    "unfit", [{"coordinate_scale": 5.0}, {"image_statistics": True}, {"input_shape": [None, None, 3]}]
)
def test_models_that_have_no_int8(unfit, model, tmp_path, capsys):
    utils.write_json(model / "config.json", {"network": {"input_shape": [64, 96, 3], **unfit}})
    with pytest.raises(SystemExit):
        export_command.main(
            f"{model} {tmp_path / 'out'} --format tflite --int8 {ROOT / 'inference_test/images'}".split()
        )
    assert f"{model}: found a model that" in capsys.readouterr().err and not (tmp_path / "out").exists()
