"""Every command of the README and of doc/ is run, on small data of its kind.

Those of doc/export.md in test_export.py, of doc/speed.md in test_benchmark.py, of several machines in
test_strategies.py.
"""

import importlib
import json
import shutil
import subprocess
from glob import glob
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, draw_scene, fake_step, miniature
from test_readme import commands_of
from test_video import write_video

import utils
from data import synthetic_dataset, tusimple_dataset_processing


def write_annotations(folder):
    """`my_annotations/`, labelme's, again in `my_test_annotations/`; `instances.json`, COCO's, of `my_images/`."""
    rng, images, annotations = np.random.default_rng(0), [], []
    for kind in ("my_annotations", "my_images"):
        (folder / kind).mkdir()
    for number in range(4):
        image, _ = draw_scene(rng)
        x = 20 + 10 * number
        box = [[x, 20], [x + 40, 20], [x + 40, 60], [x, 60]]
        shapes = [{"label": "leaf", "shape_type": "polygon", "points": box}]
        shapes.append({"label": "stem", "shape_type": "linestrip", "points": [[80, 30], [140, 90]]})
        file = {"imagePath": f"{number}.jpg", "imageHeight": 96, "imageWidth": 160, "shapes": shapes}
        (folder / f"my_annotations/{number}.json").write_text(json.dumps(file))
        for kind in ("my_annotations", "my_images"):
            cv2.imwrite(str(folder / kind / f"{number}.jpg"), image)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 96, "width": 160})
        annotation = {"id": number, "image_id": number, "category_id": 1 + number % 2}
        annotations.append(annotation | {"segmentation": [np.ravel(box).tolist()]})
    categories = [{"id": 1, "name": "leaf"}, {"id": 2, "name": "stem"}]
    file = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(file))
    shutil.copytree(folder / "my_annotations", folder / "my_test_annotations")


def write_masks(folder):
    """`nuclei_train/` and `nuclei_val/`: a folder for each image, with one mask file for each of two instances."""
    rng = np.random.default_rng(0)
    for name, count in (("nuclei_train", 4), ("nuclei_val", 2)):
        for number in range(count):
            masks = np.zeros((2, 96, 96), np.uint8)
            masks[0, 20:40, 20:40] = masks[1, 40:60, 30 + number : 60] = 255
            for kind, files in (("images", [masks.max(axis=0) // 3 + rng.integers(9)]), ("masks", masks)):
                (folder / name / f"{name}_{number}" / kind).mkdir(parents=True)
                for k, file in enumerate(files):
                    cv2.imwrite(str(folder / name / f"{name}_{number}" / kind / f"{kind}_{k}.png"), file)


def write_lanes(folder):
    """TuSimple's form in `train_set/`, `my_set/` and `my_test_set/`, CULane's in `culane/`."""
    rows = list(range(300, 720, 10))
    lines = []
    for number in range(2):
        lanes = [[640 + slope * (y - 250) // 100 for y in rows] for slope in (-90 - 9 * number, 20, 110)]
        lanes = [[x if 0 <= x < 1280 else -2 for x in lane] for lane in lanes]
        lines.append({"raw_file": f"clips/a/{number}/20.jpg", "lanes": lanes, "h_samples": rows})
        for name in ("train_set", "my_set", "my_test_set"):
            path = folder / name / lines[-1]["raw_file"]
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), np.full((720, 1280, 3), 90 + number, np.uint8))
        path = folder / f"culane/driver_a/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((590, 1640, 3), 90 + number, np.uint8))
        path.with_suffix(".lines.txt").write_text("700 580 750 400 800 300\n")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for name in ("train_set/label_data_1.json", "my_set/label_data_1.json", "my_test_set/my_labels.json"):
        (folder / name).write_text(text)
    (folder / "culane/list").mkdir()
    for name in ("train", "test"):
        (folder / f"culane/list/{name}.txt").write_text("/driver_a/0.jpg\n/driver_a/1.jpg\n")


NETWORK = {"input_shape": [64, 96, 3], "embedding_dim": 3, "semantic": True}
# what a command needs more to be quick, or to go where another one was
QUICK = "--steps 2 --plot-every 9 --logdir log --modeldir none"
MORE = {
    "training.py": QUICK,
    "data/instance_dataset_processing.py": "--overwrite",
    "data/tusimple_dataset_processing.py": "--overwrite",
    "data/culane_dataset_processing.py": "--overwrite",
    "data/synthetic_dataset.py": "--count 2 --workers 1",
}


def walk(commands, first, more, capsys):
    """Run commands, those of the programs `first` before the others; `more` is what each program gets beside."""
    commands = sorted(commands, key=lambda command: [*first, command[0]].index(command[0]))
    for command in commands:
        start = 2 if command[0] == "-m" else 1
        name = f"{command[1]}.__main__" if start == 2 else command[0].removesuffix(".py").replace("/", ".")
        flags = more.get(command[start - 1], "").split() if "--resume" not in command else []
        command = [path for word in command for path in (sorted(glob(word)) if "*" in word else [word])]
        if command[0] == "training.py" and flags:  # as small as the images here
            size = ["96", "96"] if "--crop" in command else ["64", "96"]
            flags += ["--crop" if "--crop" in command else "--image-size", *size]
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


def about_classes(command):
    """Whether a command of own_data.md belongs to its section on classes."""
    return any(name in word for name in ("camvid", "kinds", "desk") for word in command)


def write_desks(folder, count=3, test_count=2):
    """`desk/` and `desk_test/`, labelme's: photos with bright cups, some of them called mugs, and dark pens."""
    rng = np.random.default_rng(0)
    for name, number in [("desk", n) for n in range(count)] + [("desk_test", n) for n in range(test_count)]:
        image, shapes = rng.integers(90, 130, (96, 128, 3), np.uint8), []
        for place in rng.permutation(6)[:4]:
            x, y = (
                int(value) for value in (place % 3 * 40 + rng.integers(20, 28), place // 3 * 44 + rng.integers(22, 30))
            )
            if place % 2:
                points = cv2.boxPoints(((x, y), (34, 7), float(rng.integers(180))))
                shapes.append({"label": "pen", "shape_type": "polygon", "points": points.tolist()})
                cv2.fillPoly(image, [points.astype(np.int32)], rng.integers(20, 70, 3).tolist())
            else:
                radius = int(rng.integers(8, 14))
                points = [[x + 0.5, y + 0.5], [x + radius + 0.5, y + 0.5]]
                shapes.append({"label": str(rng.choice(["cup", "mug"])), "shape_type": "circle", "points": points})
                cv2.circle(image, (x, y), radius, rng.integers(170, 255, 3).tolist(), cv2.FILLED)
        (folder / name).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name / f"{number}.png"), image)
        file = {"imagePath": f"{number}.png", "imageHeight": 96, "imageWidth": 128, "shapes": shapes}
        (folder / name / f"{number}.json").write_text(json.dumps(file))


def write_class_maps(folder):
    """`camvid_set/`, five images of each sequence; `train_set_2/`, `val_set/` and `lane_classes.json` of lanes."""
    shutil.copytree(ROOT / "doc", folder / "doc")
    ids = [
        int(line.split()[0])
        for line in (ROOT / "doc/camvid_classes.txt").read_text().splitlines()
        if line[:1].isdigit()
    ]
    for kind in ("images", "classes"):
        (folder / "camvid_set" / kind).mkdir(parents=True)
    for sequence, name in enumerate(("0001TP", "0006R0", "0016E5", "Seq05VD")):
        for number in range(5):
            classes = np.full((64, 96), ids[number], np.uint8)
            classes[32:] = ids[sequence + 5]
            cv2.imwrite(str(folder / f"camvid_set/classes/{name}_{number}.png"), classes)
            cv2.imwrite(str(folder / f"camvid_set/images/{name}_{number}.png"), 3 * classes + sequence)
    lines = (folder / "train_set/label_data_1.json").read_text().splitlines()
    shutil.copytree(folder / "train_set", folder / "train_set_2")
    shutil.copytree(folder / "train_set/clips", folder / "val_set/clips")
    for name, line in zip(("0313", "0601"), lines, strict=True):
        (folder / f"val_set/label_data_{name}.json").write_text(line)
    kinds = [{"classes": {"1": "continuous yellow", "2": "continuous white", "3": "dashed"}}]
    kinds += [{"raw_file": json.loads(line)["raw_file"], "classes": [1, 3, 2]} for line in lines]
    (folder / "lane_classes.json").write_text("".join(json.dumps(kind) + "\n" for kind in kinds))


def test_classes_of_own_data_from_the_first_to_the_last_command(place, tmp_path, capsys):
    """The page's loops of the shell among them, in its order."""
    write_class_maps(tmp_path)
    write_desks(tmp_path)
    commands = [command for command in commands_of(ROOT / "doc/own_data.md") if about_classes(command)]
    text = (ROOT / "doc/own_data.md").read_text(encoding="utf-8")
    done = 0
    for line in text.splitlines():
        if line.startswith("for ") and line.endswith("done"):
            subprocess.run(["bash", "-c", line], check=True)
        elif any(line == "python " + " ".join(command) for command in commands):
            done += sum(1 for _ in walk([line.split()[1:]], [], MORE, capsys))
    out = capsys.readouterr().out
    assert done == len(commands) == 13 and out.count("mIoU") >= 4
    assert Path("desk_results/0_classes.png").exists()
    assert Path("kinds_run/best/model.keras").exists()


def test_own_data_from_the_first_to_the_last_command(place, capsys):
    commands = [command for command in commands_of(ROOT / "doc/own_data.md") if not about_classes(command)]
    assert len(commands) >= 13
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
    model = "--modeldir saved_model"
    for command in commands:
        if command[0] == "data/tusimple_dataset_processing.py" and "-o" not in command:
            command += ["-o", "data"]  # by default the script's own folder
    more = {"inference.py": model, "evaluation": model}
    first = ["data/synthetic_dataset.py", "data/tusimple_dataset_processing.py", "training.py"]
    assert sum(1 for _ in walk(commands, first, {**MORE, **more}, capsys)) == len(commands)
    assert "Accuracy" in capsys.readouterr().out
    for path in ("my_results/cluster_0000.png", "my_results/drive.mp4", "saved_model/log.jsonl", "quickstart/best"):
        assert Path(path).exists()
    for path in ("my_semantic_model/best", "worst_first", "doc/overview.png"):
        assert Path(path).exists()


def write_sources(folder):
    """The images that the pages name, in TuSimple's form, no two alike."""
    line = (folder / "train_set/label_data_1.json").read_text().splitlines()[0]
    raw_file = json.loads(line)["raw_file"]
    shutil.rmtree(folder / "train_set")
    labels = {name: ["label_data_0313"] for name in ("train_set", "extra_set", "cameras/a", "cameras/b")}
    labels |= {"val_set": ["label_data_0313", "label_data_0601"], "official_test_50": ["test_label"]}
    labels |= {"val_set_0313": ["label_data_0313"], "val_set_0601": ["label_data_0601"]}
    for shade, (name, files) in enumerate(labels.items()):
        for number, file in enumerate(files):
            image = folder / name / raw_file.replace("/0/", f"/{number}/")
            image.parent.mkdir(parents=True)
            cv2.imwrite(str(image), np.full((720, 1280, 3), 60 + 20 * shade + 5 * number, np.uint8))
            (folder / name / f"{file}.json").write_text(line.replace("/0/", f"/{number}/"))


def paint_nothing(rng, empty, frame):
    """A scene without its painting, which takes long."""
    rows = list(range(160, 720, 10))
    lanes = [] if empty else [[700 - y // 2 for y in rows], [600 + y // 2 for y in rows]]
    return rng.integers(256, size=(720, 1280, 3), dtype=np.uint8), {"lanes": lanes, "h_samples": rows}


@pytest.fixture
def sources(place, tmp_path, monkeypatch):
    """That place, with the images that the shipped model was made of."""
    monkeypatch.setattr(synthetic_dataset, "render_scene", paint_nothing)
    write_sources(tmp_path)
    shutil.copytree(ROOT / "doc/runs", tmp_path / "doc/runs")


def test_reproduce_from_the_first_to_the_last_command(sources, monkeypatch, capsys):
    fake_step(monkeypatch, [1.0] * 40)
    commands = list({tuple(command): command for command in commands_of(ROOT / "doc/reproduce.md")}.values())
    runs = [command for command in commands if command[0] == "training.py"]
    files = {path.name for path in Path("doc/runs").glob("*.args")} - {
        "camvid.args",
        "quickstart.args",
    }  # of other pages
    assert len(commands) >= 40 and len(runs) == len(files)
    quick = QUICK.replace("--modeldir none", "--batch-size 2")
    more = {**MORE, "training.py": quick, "data/synthetic_dataset.py": "--count 2 --workers 1"}
    for command in walk(commands, [], more, capsys):
        if "@doc/runs/semantic.args" in command:
            shutil.copytree("semantic/best", "pretrained_semantic_model")
        if "@doc/runs/twenty-first.args" in command:
            shutil.copytree("twenty-first/best", "trained_model")
    assert capsys.readouterr().out.count("Accuracy") >= 3


def test_one_machine_with_several_gpus(place, capsys):
    (command,) = [command for command in commands_of(ROOT / "doc/distributed.md") if "mirrored" in command]
    tusimple_dataset_processing.main(["train_set", "-o", "data"])
    assert sum(1 for _ in walk([command], [], MORE, capsys)) == 1
