"""Frames of one clip are held out together."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotation_files import write

from run.command import UserError
from run.pairs import collect_pairs


def write_data(folder, names, raw_files=()):
    """A data folder of noise, each image another one."""
    rng = np.random.default_rng(list(folder.name.encode()))
    for name in names:
        image, label = rng.integers(0, 255, (32, 32, 3), np.uint8), np.eye(32, dtype=np.uint8)
        write(folder, {f"images/{name}.png": image, f"labels/{name}.png": label})
    lines = [{"raw_file": raw_file, "lanes": [[3]], "h_samples": [3]} for raw_file in raw_files]
    write(folder, {"labels.json": "".join(json.dumps(line) + "\n" for line in lines)})
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
    ],
)
def test_whole_clips_are_held_out(tmp_path, capsys, name, raw_file, clip):
    names = [name(i) for i in range(30)]
    folder = write_data(tmp_path / "data", names, [raw_file(i) for i in range(30)] if raw_file else ())
    pairs, folders = collect_pairs([f"{folder}:2"], split_by="clip")
    held_out = [names.index(Path(image).stem) for image, *_ in folders["validation"]]
    assert len(held_out) == 10 and len({clip(i) for i in held_out}) == 1
    trained_on = sorted(names.index(Path(image).stem) for image, *_ in pairs)
    assert trained_on == sorted(2 * [i for i in range(30) if i not in held_out])
    assert "1 of 3 clips held out, 10 images" in capsys.readouterr().out
    # without the flag single images, of all clips
    others = [names.index(Path(image).stem) for image, *_ in collect_pairs([folder])[1]["validation"]]
    assert len({clip(i) for i in others}) > 1


def test_one_clip_can_not_be_split(tmp_path):
    folders = [write_data(tmp_path / f"video{n}", [f"{i:04d}" for i in range(4)]) for n in range(2)]
    assert len(collect_pairs(folders, split_by="clip")[0]) == 4  # a folder for each video
    with pytest.raises(UserError, match=r"--split-by clip: found one clip, .*0000.png.*--valdir"):
        collect_pairs(folders[:1], split_by="clip")
