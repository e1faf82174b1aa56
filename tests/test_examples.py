"""Every command of README.md and doc/own_data.md is run, on small data of its kind."""

import importlib
import json
import re
import shutil
import subprocess
from glob import glob
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotation_files import annotation, coco_file, corners, labelme, write
from conftest import ROOT, draw_scene, fake_step, miniature
from test_readme import commands_of
from test_video import write_video

import utils


def write_annotations(folder):
    """`my_annotations/`, labelme's, again in `my_test_annotations/`; `instances.json`, COCO's, of `my_images/`."""
    rng, annotations, names = np.random.default_rng(0), [], [f"{number}.jpg" for number in range(4)]
    for number, name in enumerate(names):
        scene, box = draw_scene(rng)[0], corners(20 + 10 * number, 20, 60 + 10 * number, 60)
        shapes = ("polygon", "leaf", box), ("linestrip", "stem", [[80, 30], [140, 90]])
        file = labelme(name, *shapes, size=(96, 160))
        for kind in ("my_annotations", "my_test_annotations", "my_images"):
            write(folder / kind, {name: scene, f"{number}.json": file} if kind != "my_images" else {name: scene})
        annotations.append(annotation([np.ravel(box).tolist()], 1 + number % 2, number))
    file = coco_file(annotations, names, [(1, "leaf"), (2, "stem")])
    for number, image in enumerate(file["images"]):
        image.update(id=number, height=96, width=160)
    write(folder, {"instances.json": file})


def write_masks(folder):
    """`nuclei_train/` and `nuclei_val/`: a folder for each image, with one mask file for each of two instances."""
    for name, count in (("nuclei_train", 4), ("nuclei_val", 2)):
        for number in range(count):
            masks = np.zeros((2, 96, 96), np.uint8)
            masks[0, 20:40, 20:40] = masks[1, 40:60, 30 + number : 60] = 255
            files = {"images/a.png": masks.max(axis=0) // 3 + number, "masks/0.png": masks[0], "masks/1.png": masks[1]}
            write(folder / name / f"{name}_{number}", files)


def write_leaves(folder):
    """`A1/`, the archive of the leaves with four plants, those of `doc/leaves.txt`, and the runs of the page."""
    shutil.copytree(ROOT / "doc/runs", folder / "doc/runs")
    write(folder, {"doc/leaves.txt": "train 001 002\nchoose 003\nval 004\n"})
    label = np.zeros((96, 96, 3), np.uint8)
    label[10:30, 10:40], label[40:70, 20:50] = (255, 0, 0), (0, 255, 0)
    for number in range(1, 5):
        names = [f"plant00{number}_{kind}.png" for kind in ("rgb", "label", "fg")]
        write(folder / "A1", dict(zip(names, (label // 3 + number, label, label[:, :, 0]), strict=True)))


def write_lanes(folder):
    """TuSimple's form in `train_set/`, `my_set/` and `my_test_set/`, CULane's in `culane/`."""
    rows, lines = list(range(300, 720, 10)), []
    for number in range(2):
        lanes = [[640 + slope * (y - 250) // 100 for y in rows] for slope in (-90 - 9 * number, 20, 110)]
        lanes = [[x if 0 <= x < 1280 else -2 for x in lane] for lane in lanes]
        lines.append({"raw_file": f"clips/a/{number}/20.jpg", "lanes": lanes, "h_samples": rows})
        for name in ("train_set", "my_set", "my_test_set"):
            write(folder / name, {lines[-1]["raw_file"]: np.full((720, 1280, 3), 90 + number, np.uint8)})
        image, text = np.full((590, 1640, 3), 90 + number, np.uint8), "700 580 750 400 800 300\n"
        write(folder / "culane/driver_a", {f"{number}.jpg": image, f"{number}.lines.txt": text})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for name in ("train_set/label_data_1.json", "my_set/label_data_1.json", "my_test_set/my_labels.json"):
        write(folder, {name: text})
    write(folder / "culane/list", dict.fromkeys(("train.txt", "test.txt"), "/driver_a/0.jpg\n/driver_a/1.jpg\n"))


# what a command needs more to be quick, or to go where another one was
QUICK = "--steps 2 --plot-every 9 --logdir log --modeldir none"
MORE = {f"data/{name}_dataset_processing.py": "--overwrite" for name in ("instance", "tusimple", "culane")}
MORE |= {"training.py": QUICK, "data/synthetic_dataset.py": "--count 2 --workers 1"}


def walk(commands, first, more, capsys):
    """Run commands, those of the programs `first` before the others; `more` is what each program gets beside."""
    commands = sorted(commands, key=lambda command: [*first, command[0]].index(command[0]))
    for command in commands:
        start = 2 if command[0] == "-m" else 1
        name = f"{command[1]}.__main__" if start == 2 else command[0].removesuffix(".py").replace("/", ".")
        flags = more.get(command[start - 1], "").split() if "--resume" not in command else []
        command = [path for word in command for path in (sorted(glob(word)) if "*" in word else [word])]
        if command[0] == "training.py" and flags:  # as small as the images here
            is_crop = "--crop" in command or "@doc/runs/objects.args" in command
            size = ["96", "96"] if is_crop else ["64", "96"]
            flags += ["--crop" if is_crop else "--image-size", *size]
        try:
            assert not importlib.import_module(name).main(command[start:] + flags), command
        except SystemExit as end:
            pytest.fail(f"{command}: exit code {end.code}: {capsys.readouterr().err}")
        yield command


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with data of every kind, and networks that need no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils, "build_model", miniature)
    fake_step(monkeypatch, [1.0] * 20)
    write_annotations(tmp_path)
    write_lanes(tmp_path)
    write_masks(tmp_path)
    (tmp_path / "data").mkdir()


def write_desks(folder, count=3, test_count=2):
    """`desk/` and `desk_test/`, labelme's: photos with bright cups, some of them called mugs, and dark pens."""
    rng = np.random.default_rng(0)
    for name, number in [("desk", n) for n in range(count)] + [("desk_test", n) for n in range(test_count)]:
        image, shapes = rng.integers(90, 130, (96, 128, 3), np.uint8), []
        for place in rng.permutation(6)[:4]:
            x, y = int(place % 3 * 40 + rng.integers(20, 28)), int(place // 3 * 44 + rng.integers(22, 30))
            if place % 2:
                points = cv2.boxPoints(((x, y), (34, 7), float(rng.integers(180))))
                shapes.append(("polygon", "pen", points.tolist()))
                cv2.fillPoly(image, [points.astype(np.int32)], rng.integers(20, 70, 3).tolist())
            else:
                radius = int(rng.integers(8, 14))
                points = [[x + 0.5, y + 0.5], [x + radius + 0.5, y + 0.5]]
                shapes.append(("circle", str(rng.choice(["cup", "mug"])), points))
                cv2.circle(image, (x, y), radius, rng.integers(170, 255, 3).tolist(), cv2.FILLED)
        file = labelme(f"{number}.png", *shapes, size=(96, 128))
        write(folder / name, {f"{number}.png": image, f"{number}.json": file})


def write_class_maps(folder):
    """`camvid_set/`, five images of each sequence; `train_set_2/`, `val_set/` and `lane_classes.json` of lanes."""
    shutil.copytree(ROOT / "doc", folder / "doc")
    ids = [int(number) for number in re.findall(r"^\d+", (folder / "doc/camvid_classes.txt").read_text(), re.MULTILINE)]
    for sequence, name in enumerate(("0001TP", "0006R0", "0016E5", "Seq05VD")):
        for number in range(5):
            classes = np.full((64, 96), ids[number], np.uint8)
            classes[32:] = ids[sequence + 5]
            files = {f"classes/{name}_{number}.png": classes, f"images/{name}_{number}.png": 3 * classes + sequence}
            write(folder / "camvid_set", files)
    lines = (folder / "train_set/label_data_1.json").read_text().splitlines()
    shutil.copytree(folder / "train_set", folder / "train_set_2")
    shutil.copytree(folder / "train_set/clips", folder / "val_set/clips")
    write(folder / "val_set", {"label_data_0313.json": lines[0], "label_data_0601.json": lines[1]})
    kinds = [{"classes": {"1": "continuous yellow", "2": "continuous white", "3": "dashed"}}]
    kinds += [{"raw_file": json.loads(line)["raw_file"], "classes": [1, 3, 2]} for line in lines]
    write(folder, {"lane_classes.json": "".join(json.dumps(kind) + "\n" for kind in kinds)})


def test_classes_from_the_first_to_the_last_command(place, tmp_path, capsys):
    """The page's loops of the shell among them, in its order."""
    write_class_maps(tmp_path)
    write_desks(tmp_path)
    commands, done = commands_of(ROOT / "doc/classes.md"), 0
    for line in (ROOT / "doc/classes.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("for ") and line.endswith("done"):
            subprocess.run(["bash", "-c", line], check=True)
        elif any(line == "python " + " ".join(command) for command in commands):
            done += sum(1 for _ in walk([line.split()[1:]], [], MORE, capsys))
    out = capsys.readouterr().out
    assert done == len(commands) == 13 and out.count("mIoU") >= 4
    assert Path("desk_results/0_classes.png").exists() and Path("kinds_run/best/model.keras").exists()


def test_own_data_from_the_first_to_the_last_command(place, tmp_path, capsys):
    write_leaves(tmp_path)
    (loop,) = re.findall("^for .* done$", (ROOT / "doc/own_data.md").read_text(encoding="utf-8"), re.MULTILINE)
    subprocess.run(["bash", "-c", loop], check=True)
    commands = commands_of(ROOT / "doc/own_data.md")
    assert len(commands) >= 20
    first = ["data/instance_dataset_processing.py", "training.py"]
    assert sum(1 for _ in walk(commands, first, {**MORE, "inference.py": "--modeldir my_run"}, capsys)) == len(commands)
    said = capsys.readouterr().out
    assert said.count("SBD ") == sum("--instances" in command for command in commands) >= 4
    assert "F1" in said and "Accuracy" in said
    assert Path("my_run/best/model.keras").exists() and Path("my_lanes.json").exists()


def test_readme_from_the_first_to_the_last_command(place, tmp_path, capsys):
    """Without pytest."""
    commands = [command for command in commands_of(ROOT / "README.md") if "pytest" not in command]
    assert len(commands) >= 16
    shutil.move("train_set", "data/train_set")
    shutil.copytree("data/train_set", "data/test_set")
    Path("data/test_set/label_data_1.json").rename("data/test_set/test_label.json")
    shutil.copytree(ROOT / "doc/runs", "doc/runs")
    shutil.copytree(ROOT / "inference_test/images", "inference_test/images")
    write_video(Path("drive.mp4"), count=3)
    for command in commands:
        if command[0] == "data/tusimple_dataset_processing.py" and "-o" not in command:
            command += ["-o", "data"]  # by default the script's own folder
    more = dict.fromkeys(("inference.py", "evaluation"), "--modeldir saved_model")
    first = ["data/synthetic_dataset.py", "data/tusimple_dataset_processing.py", "training.py"]
    assert sum(1 for _ in walk(commands, first, {**MORE, **more}, capsys)) == len(commands)
    assert "Accuracy" in capsys.readouterr().out
    written = "my_results/cluster_0000.png my_results/drive.mp4 saved_model/log.jsonl quickstart/best worst_first"
    assert all(Path(path).exists() for path in (*written.split(), "my_semantic_model/best"))
