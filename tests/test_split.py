"""Frames of one clip on both sides of a split: held out together, or said."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import training
from run.command import UserError
from run.pairs import collect_pairs
from run.split import NEIGHBORS, find_near_equal, name_clips, warn_of_near_equal


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


RAW_FILES = [f"clips/0313-{1 + i % 3}/{20 * i}/20.jpg" for i in range(30)]  # not in their order, as TuSimple's


@pytest.mark.parametrize(
    "names, raw_files, clip",
    [
        ([f"{i:04d}" for i in range(30)], RAW_FILES, lambda i: i % 3),
        ([f"{i:04d}" for i in range(30)], [f"a_{i % 3}.MP4/{i:05d}.jpg" for i in range(30)], lambda i: i % 3),
        ([f"{i:04d}" for i in range(30)], [f"clips/town{i % 3}_{i:05d}/20.jpg" for i in range(30)], lambda i: i % 3),
        ([f"drive{i // 10}_{i}" for i in range(30)], (), lambda i: i // 10),
        ([f"2024-05-0{i // 10 + 1}-{i:03d}_crop" for i in range(30)], (), lambda i: i // 10),
        (["ab", "cd", "ef"], (), lambda i: i),
    ],
)
def test_what_tells_a_clip(tmp_path, names, raw_files, clip):
    folder = Path(write_data(tmp_path / "data", names, raw_files))
    clips = name_clips([str(folder / "images" / f"{name}.png") for name in names])
    numbers = [clip(i) for i in range(len(names))]
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


def test_split_by_with_valdir_is_refused(capsys):
    with pytest.raises(SystemExit):
        training.parse_args(["--split-by", "clip", "--valdir", "data"])
    assert "--split-by: found with --valdir" in capsys.readouterr().err


def scene(seed):
    """A gray image of blobs, (270, 480)."""
    noise = np.random.default_rng(seed).normal(size=(18, 32)).astype(np.float32)
    return cv2.normalize(cv2.resize(noise, (480, 270), interpolation=cv2.INTER_CUBIC), None, 0, 200, cv2.NORM_MINMAX)


def write_images(folder, images):
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.jpg"), image)
    return [str(folder / f"{name}.jpg") for name in images]


def test_near_equal_images_are_found(tmp_path, capsys):
    """The next frame, in another light, is; another scene isn't, nor are two that show nothing."""
    black, next_frame = np.zeros((270, 480), np.uint8), np.roll(scene(2), 3, axis=1)
    paths = write_images(tmp_path, {f"a_{n}": scene(n) for n in range(8)} | {"black": black})
    val_paths = write_images(tmp_path, {"b_0": 0.6 * next_frame + 40, "b_1": scene(20), "b_2": black})
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    count, near_equal = find_near_equal(paths, [*val_paths, str(broken), paths[0]])
    assert count == 4 and near_equal == [(val_paths[0], paths[2])]
    assert capsys.readouterr().err == ""
    warn_of_near_equal([(path, "") for path in paths], [(path, "") for path in val_paths])
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "1 of 3 validation images" in error and "--split-by clip" in error
    warn_of_near_equal([(path, "") for path in paths], [(path, "") for path in val_paths[1:]])
    assert capsys.readouterr().err == ""


def test_of_many_images_the_neighbors_are_compared(tmp_path, monkeypatch):
    """As their numbers count, whatever their zeros: of frame 10 that is frame 9 and 11."""
    monkeypatch.setattr("run.split.MAX_TRAINING", 20)
    paths, read = [f"{tmp_path}/frame_{n}.jpg" for n in range(60)], []
    monkeypatch.setattr("run.split._thumbnail", lambda path: read.append(path) or np.ones(4))
    find_near_equal([path for path in paths if path != paths[10]], [paths[10]])
    assert sorted(read) == sorted(paths[10 - NEIGHBORS : 11 + NEIGHBORS])


def test_plants_that_come_again(shared_data):
    """Leaves of one plant on different days, in a random split; parted by pot; and nuclei, which are alike."""

    def count(training, validation):
        return len(find_near_equal([pair[0] for pair in training], [pair[0] for pair in validation])[1])

    pairs, folders = collect_pairs([str(shared_data / "leaves/train")])
    assert count(pairs, folders["validation"]) >= len(folders["validation"]) // 2
    pairs, folders = collect_pairs([str(shared_data / "leaves/train")], [str(shared_data / "leaves/val")])
    assert count(pairs, folders["val"]) == 0
    pairs, folders = collect_pairs([str(shared_data / "nuclei/train")])
    assert count(pairs, folders["validation"]) == 0
