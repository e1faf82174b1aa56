"""Frames of one clip are held out together."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from run.command import UserError
from run.pairs import collect_pairs
from run.split import name_clips


def write_data(folder, names, raw_files=()):
    """A data folder of noise, each image another one."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng([len(folder.name), *folder.name.encode()])
    for name in names:
        cv2.imwrite(str(folder / "images" / f"{name}.png"), rng.integers(0, 255, (32, 32, 3), np.uint8))
        cv2.imwrite(str(folder / "labels" / f"{name}.png"), np.eye(32, dtype=np.uint8))
    if raw_files:
        lines = [{"raw_file": raw_file, "lanes": [[3]], "h_samples": [3]} for raw_file in raw_files]
        (folder / "labels.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


@pytest.mark.parametrize(
    "name, raw_file, clip",
    [
        # not in their order, as TuSimple's
        (lambda i: f"{i:04d}", lambda i: f"clips/0313-{1 + i % 3}/{20 * i}/20.jpg", lambda i: i % 3),
        (lambda i: f"{i:04d}", lambda i: f"a_{i % 3}.MP4/{i:05d}.jpg", lambda i: i % 3),
        (lambda i: f"{i:04d}", lambda i: f"clips/town{i % 3}_{i:05d}/20.jpg", lambda i: i % 3),
        (lambda i: f"drive{i // 10}_{i}", None, lambda i: i // 10),
        (lambda i: f"2024-05-0{i // 10 + 1}-{i:03d}_crop", None, lambda i: i // 10),
        (lambda i: 2 * chr(ord("a") + i % 26), None, lambda i: i % 26),
    ],
)
def test_what_tells_a_clip(tmp_path, name, raw_file, clip):
    names = [name(i) for i in range(30)]
    folder = Path(write_data(tmp_path / "data", names, [raw_file(i) for i in range(30)] if raw_file else ()))
    clips = name_clips([str(folder / "images" / f"{name}.png") for name in names])
    numbers = [clip(i) for i in range(30)]
    assert [clips.index(one) for one in clips] == [numbers.index(number) for number in numbers]


def test_whole_clips_are_held_out(tmp_path, capsys):
    names = [f"drive{i // 6}_{i}" for i in range(60)]
    folder = write_data(tmp_path / "data", names)
    pairs, folders = collect_pairs([f"{folder}:2"], split_by="clip")
    held_out = [Path(image).stem for image, _ in folders["validation"]]
    clips = {re.match(r"drive\d+", name)[0] for name in held_out}
    assert len(held_out) == 6 and len(clips) == 1  # 10 %
    trained_on = sorted(Path(image).stem for image, _ in pairs)
    assert trained_on == sorted(2 * [name for name in names if name not in held_out])
    assert "1 of 10 clips held out, 6 of 60 images" in capsys.readouterr().out
    # wherever the folder lies
    moved = Path(folder).rename(tmp_path / "drive_3")
    again = collect_pairs([str(moved)], split_by="clip")[1]["validation"]
    assert [Path(image).stem for image, _ in again] == held_out
    # without the flag single images, of all clips
    others = [Path(image).stem for image, _ in collect_pairs([str(moved)])[1]["validation"]]
    assert len({re.match(r"drive\d+", name)[0] for name in others}) > 1


def test_a_folder_for_each_video(tmp_path):
    folders = [write_data(tmp_path / f"video{n}", [f"{i:04d}" for i in range(4 + n)]) for n in range(3)]
    pairs, validation = collect_pairs(folders, split_by="clip")
    assert {Path(image).parts[-3] for image, _ in validation["validation"]} == {"video0"}  # all are large: the smallest
    assert len(pairs) == 5 + 6
    with pytest.raises(UserError, match=r"--split-by clip: found 6 images of one clip, .*0000.png.*--valdir"):
        collect_pairs(folders[2:], split_by="clip")
