"""Classes beside instances: files, losses image by image, a run of folders of both kinds, scores by hand."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import miniature
from sklearn.metrics import jaccard_score, log_loss

import training
import utils
from clustering import class_map, instance_classes
from data.files import ClassName, class_table, find_pairs, find_samples, read_class_names, write_class_names
from datagenerator import NO_LABEL, ClassMap, View, batches, make_dataset, read_classes
from evaluation.classes import ClassScore, class_confusion, class_iou, true_classes
from loss import class_loss
from pipeline import segmentation
from run import train_step
from run.checkpoint import start_from
from run.command import UserError

SIZE = (16, 24)
NAMES = [ClassName(3, "car"), ClassName(7, "the sky", True), ClassName(9, "-")]


@pytest.fixture
def folders(tmp_path):
    """Three data folders of 32x48 images: with labels alone, with classes alone, with both."""
    rng = np.random.default_rng(0)
    for name, parts in (("plain", ["labels"]), ("street", ["classes"]), ("both", ["labels", "classes"])):
        for part in ["images", *parts]:
            (tmp_path / name / part).mkdir(parents=True)
        for number in range(4):
            label = np.zeros((32, 48), np.uint8)
            label[4:20, 5:15], label[10:30, 25:40] = 20, 70
            image = rng.integers(0, 255, (32, 48, 3), np.uint8)
            classes = np.select([label == 20, label == 70], [3, 9], 7).astype(np.uint8)
            for part, array in (("images", image), ("labels", label), ("classes", classes)):
                if part in ["images", *parts]:
                    cv2.imwrite(str(tmp_path / name / part / f"{number}.png"), array)
        if "classes" in parts:
            write_class_names(tmp_path / name, NAMES)
    return tmp_path


def test_class_names_are_written_and_read(folders):
    assert (folders / "both/classes.txt").read_text() == "3 car\n7 the sky stuff\n9 -\n"
    assert read_class_names(folders / "both") == NAMES
    assert list(class_table(folders / "both", ["the sky", "car"])) == [
        {0: 0, 3: 2, 7: 1, 9: 255, 255: 255}.get(number, 251) for number in range(256)
    ]
    with pytest.raises(UserError, match="classes.txt.*the sky.*car"):
        class_table(folders / "both", ["car"])
    write_class_names(folders / "both", NAMES[1:])
    with pytest.raises(UserError, match=r"0\.png: found class 3.*classes\.txt"):
        read_classes(ClassMap(str(folders / "both/classes/0.png"), class_table(folders / "both", ["the sky"])))


@pytest.mark.parametrize("line", ["car", "3", "251 car", "-1 car", "3 car\n3 van"])
def test_class_line_that_says_something_else_is_named(tmp_path, line):
    (tmp_path / "classes.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=rf"classes.txt:{1 + line.count(chr(10))}: found"):
        read_class_names(tmp_path)


def test_files_of_each_kind_of_folder(folders):
    for name, there in (("plain", (True, False)), ("street", (False, True)), ("both", (True, True))):
        samples = find_samples(folders / name)
        assert len(samples) == 4 and {tuple(path is not None for path in sample[1:]) for sample in samples} == {there}
    assert find_pairs(folders / "both") == [sample[:2] for sample in find_samples(folders / "both")]
    with pytest.raises(UserError, match="labels"):
        find_pairs(folders / "street")
    (folders / "street/classes/2.png").unlink()
    with pytest.raises(UserError, match=r"2\.png: no file of that stem in .*classes"):
        find_samples(folders / "street")


def collected(folders, *names, more=()):
    from run.flags import parse_args
    from run.pairs import collect_data

    sources, valdir = [str(folders / name) for name in names], str(folders / "both")
    return collect_data(parse_args(["--srcdir", *sources, "--valdir", valdir, "--modeldir", "none", *more]))


@pytest.mark.parametrize("view", ["stretch", "aspect", "crop"])
@pytest.mark.parametrize("seed", [None, 5])
def test_what_is_absent_is_ignored_and_what_is_there_stays_together(folders, view, seed):
    data = collected(folders, "plain", "street", "both")
    assert data.classes == {"car": False, "the sky": True}
    dataset = make_dataset(data.pairs, SIZE, 4, seed, seed is not None, view=View(view))
    parts = [[part.numpy() for part in batch] for batch in batches(dataset.take(9))]
    label, index = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    assert label.shape[-1] == 2 and {*index} == set(range(12))
    for (ids, classes), number in zip(np.moveaxis(label, -1, 1), index, strict=True):
        if number < 4:
            assert (classes == 255).all() and {*np.unique(ids)} <= {0, 20, 70}
        elif number < 8:
            assert (ids == NO_LABEL).all() and {*np.unique(classes)} <= {0, 1, 2, 255}
        else:  # 0 of the class map only from outside of the image, as 0 of the ids
            assert ((classes == 1) == (ids == 20)).all() and ((classes == 255) == (ids == 70)).all()


def test_class_loss_is_weighted_cross_entropy():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (2, 4, 5, 3)).astype(np.float32)
    classes = rng.choice([0, 1, 2, 3, 255], (2, 4, 5)).astype(np.int32)
    weights = [2.0, 7.0, 1.5]
    chosen = (classes > 0) & (classes < 4)
    exponents = np.exp(logits[chosen].astype(float))
    weight = np.array(weights)[classes[chosen] - 1]
    expected = log_loss(classes[chosen], exponents / exponents.sum(axis=1, keepdims=True), sample_weight=weight)
    assert float(class_loss(logits, classes, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(class_loss(logits, np.full((2, 4, 5), 255, np.int32), weights)) == 0


DEPTHS = {"embedding": 3, "semantic": 1, "classes": 3}
SETTINGS = {"reg": 0.1, "foreground": 3.0, "class_weights": (2.0, 7.0, 1.5)}


def mixed_batch():
    """Outputs of a network of three classes, and labels: image 0 has ids, 1 classes, 2 both."""
    rng = np.random.default_rng(2)
    outputs = {name: tf.constant(rng.normal(0, 2, (3, 8, 8, depth)), tf.float32) for name, depth in DEPTHS.items()}
    label = np.stack([rng.choice([0, 20, 70], (3, 8, 8)), rng.choice([0, 1, 2, 3, 255], (3, 8, 8))], axis=-1)
    label[1, :, :, 0], label[0, :, :, 1] = NO_LABEL, 255
    return outputs, label.astype(np.int32)


def losses_of(outputs, label, **more):
    return train_step.make_losses(train_step.LossSettings(**SETTINGS, **more), jit=False)(outputs, label)


@pytest.mark.parametrize("ignore", [None, 70])
@pytest.mark.parametrize("background", [True, False])
def test_images_without_label_or_classes_have_no_such_loss(background, ignore):
    """Gradients of what is absent are 0, and the losses are those of the images that have what they compare with."""
    more = {"background": background, "ignore": ignore}
    outputs, label = mixed_batch()
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        terms = losses_of(outputs, label, cls=2.0, **more)
    gradients = tape.gradient(terms[0], outputs)
    for name, absent in (("embedding", 1), ("semantic", 1), ("classes", 0)):
        size = np.abs(gradients[name].numpy()).sum(axis=(1, 2, 3))
        assert size[absent] == 0 and (np.delete(size, absent) > 0).all() and np.isfinite(size).all(), name
    some = {name: tf.gather(outputs[name], [0, 2]) for name in ("embedding", "semantic")}
    expected = losses_of(some, label[[0, 2]][..., 0], cls=0.0, **more)[1:]
    expected = [*expected, 2 * class_loss(outputs["classes"][1:], label[1:, :, :, 1], SETTINGS["class_weights"])]
    np.testing.assert_allclose(terms, [sum(expected), *expected], rtol=1e-5)


def test_batch_without_any_label_or_class_costs_nothing():
    for absent, filling, expected in ((0, NO_LABEL, [True] * 4 + [False]), (1, 255, [False] * 4 + [True])):
        outputs, label = mixed_batch()
        label[..., absent] = filling
        assert [float(term) == 0 for term in losses_of(outputs, label, cls=2.0)[1:]] == expected


def run_flags(folders, *names, out="run", steps=4, val="both"):
    flags = f"--srcdir {' '.join(str(folders / name) for name in names)} --valdir {folders / val} --modeldir none "
    flags += f"--outdir {folders / out} --logdir {folders / 'log'} --image-size 16 24 --batch-size 4 --steps {steps}"
    return (flags + " --val-every 1 --save-every 1 --reg 0.001 --deterministic").split()


def test_run_of_folders_of_both_kinds(folders, monkeypatch):
    """A run, its going on, what the model's folder says of its classes, and what runs that start from it keep."""
    monkeypatch.setattr(utils, "build_model", miniature)
    assert training.main(run_flags(folders, "plain", "street", "both")) == 0
    row = json.loads((folders / "run/log.jsonl").read_text().splitlines()[-1])
    assert row["train"]["l_class"] > 0 and row["val"]["l_class"] > 0 and 0 <= row["val"]["mIoU"] <= 1
    terms = [row["val"][name] for name in train_step.loss_terms(DEPTHS)]
    assert terms[0] == pytest.approx(sum(terms[1:]), abs=1e-4)
    assert utils.read_classes(folders / "run") == {"car": False, "the sky": True}
    config = json.loads((folders / "run/config.json").read_text())
    # of the 16 x 24 pixels, every second row and column of the file, 8 x 5 are car and 10 x 8 to be ignored
    shares = np.array([40, 384 - 40 - 80]) / (384 - 80)
    np.testing.assert_allclose(config["class_weights"], [1 / math.log(1.02 + share) for share in shares], atol=5e-4)

    assert training.main(run_flags(folders, "plain", "street", "both", out="short", steps=2)) == 0
    assert training.main(["--resume", str(folders / "short"), "--steps", "4"]) == 0
    ends = [np.load(folders / name / "checkpoint.npz") for name in ("run", "short")]
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0].files if name != "state")

    model = utils.load_model(folders / "run")
    same, other = (miniature({"input_shape": [16, 24, 3], "classes": 2}) for _ in range(2))
    assert start_from(same, folders / "run", ["car", "the sky"]) == []
    assert np.array_equal(same.get_layer("classes").kernel, model.get_layer("classes").kernel)
    assert start_from(other, folders / "run", ["car", "road"]) == ["classes"]
    again = [*run_flags(folders, "plain", out="again", steps=1, val="plain"), "--modeldir", str(folders / "run")]
    assert training.main(again) == 0
    assert list(utils.load_model(folders / "again").output) == ["embedding", "semantic"]


def test_run_of_classes_alone_has_no_semantic_head(folders, monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)
    assert training.main(run_flags(folders, "street", val="street", steps=1)) == 0
    assert list(utils.load_model(folders / "run").output) == ["embedding", "classes"]
    row = json.loads((folders / "run/log.jsonl").read_text())
    assert row["val"]["l_var"] == row["val"]["l_sem"] == 0 and "mIoU" in row["val"] and "AP" not in row["val"]


def test_folders_that_do_not_fit_are_named(folders):
    with pytest.raises(UserError, match=r"street.*0\.png.*--cls"):
        collected(folders, "plain", "street", more=["--cls", "0"])
    write_class_names(folders / "street", [NAMES[0], ClassName(7, "the sky"), NAMES[2]])
    with pytest.raises(UserError, match=r"classes\.txt: found the sky .*stuff"):
        collected(folders, "street", "both")
    write_class_names(folders / "both", [ClassName(3, "car"), ClassName(7, "-"), ClassName(9, "-")])
    data = collected(folders, "plain", "both")  # a single class is not learned
    assert data.classes == {} and {len(pair) for pair in data.pairs} == {2}


def test_class_map_and_classes_of_instances_by_hand():
    logits = np.zeros((2, 3, 3), np.float32)  # classes: 1 car, 2 person, 3 sky (stuff)
    logits[:, :, 0], logits[0, :, 2], logits[1, 2, 1] = 1, 5, 2
    outputs, stuff = {"classes": logits}, [False, False, True]
    assert class_map(outputs, stuff).tolist() == [[3, 3, 3], [1, 1, 2]]
    mask = np.array([[True, True, True], [True, False, False]])
    assert class_map(outputs, stuff, mask).tolist() == [[3, 3, 3], [1, 0, 0]]
    label_map = np.array([[0, 0, 1], [3, 3, 3]])
    classes, scores = instance_classes(logits, label_map, stuff)
    e = np.exp([0, 1, 2, 5])
    assert classes.tolist() == [1, 0, 1]
    assert scores[0] == pytest.approx(e[1] / (e[0] + e[1] + e[3]), rel=1e-5)
    assert scores[2] == pytest.approx((2 * e[1] / (e[1] + 2 * e[0]) + e[1] / (e[1] + e[2] + e[0])) / 3, rel=1e-5)


def test_iou_is_that_of_sklearn_and_a_true_instance_has_the_class_of_most_of_its_pixels():
    rng = np.random.default_rng(5)
    found, truth = rng.integers(0, 4, (2, 30, 40)), rng.choice([0, 1, 2, 3, 255], (2, 30, 40))
    confusion = sum(class_confusion(*maps, 4) for maps in zip(found, truth, strict=True))
    counted = truth != 255
    expected = jaccard_score(truth[counted], found[counted], labels=[1, 2, 3], average=None)
    np.testing.assert_allclose(class_iou(confusion), [*expected, np.nan])
    label = np.array([[5, 5, 5, 0], [9, 9, 0, 7]])
    classes = np.array([[2, 2, 1, 1], [255, 3, 1, 255]])
    assert true_classes(label, classes) == {5: 2, 9: 3}


def test_scores_of_instances_by_hand():
    """Two cars and two persons; found: one car exactly, one person as a car, a car cut to 3/4, a person too many."""
    truth, found = np.zeros((2, 8, 20), int)
    truth[0, :8], truth[2, :8], truth[4, :8], truth[6, :8], truth[7, 10:] = 11, 12, 13, 14, 15
    found[0, :8], found[2, :6], found[4, :8], found[1, 10:14], found[7, 10:] = 1, 2, 3, 4, 5
    score = ClassScore({"car": False, "person": False, "sky": True})
    seen = {11: 1, 12: 2, 13: 1, 14: 2}
    score.add_instances(found, [1, 1, 1, 2, 1], truth, {11: 1, 12: 1, 13: 2, 14: 2}, seen)  # 15 has no class
    result = score.result()
    assert set(result) == {"class AP", "AP car", "AP person", "right class of true instances"}
    # of cars 3 found and 2 true: up to an IoU of 0.75, six thresholds, 2 match, then 1; of persons none
    assert result["AP car"] == pytest.approx((6 * 2 / 3 + 4 * 1 / 4) / 10) and result["AP person"] == 0
    assert result["class AP"] == pytest.approx(result["AP car"] / 2)
    assert result["right class of true instances"] == 2 / 4


class Drawn:
    """In place of a `Network`: it finds what a folder's files say, where nothing is a van."""

    outputs, min_pixels, view = ("embedding", "semantic", "classes"), 1, View()
    find_instances = segmentation.Network.find_instances

    def __init__(self, *names):
        self.classes = {name: name == "the sky" for name in names}

    def needs_tiles(self, shape):
        return False

    def predict(self, image):
        is_car, ids = image[:, :, 0] == 100, image[:, :, 1].astype(np.float32)
        logits = {"car": 9.0 * is_car, "van": np.full_like(ids, 4), "the sky": 9.0 * ~is_car}
        return {
            "embedding": np.dstack([ids, ids]),
            "semantic": np.where(ids > 0, 9.0, -9.0)[:, :, None].astype(np.float32),
            "classes": np.dstack([logits[name] for name in self.classes]).astype(np.float32),
        }


def draw(folder, numbers=range(4)):
    """Images of a data folder as `Drawn` sees them: those of the numbers with a car, the others without."""
    for number in range(4):
        label = cv2.imread(str(folder / f"labels/{number}.png"), -1)
        car = (label == 20) & (number in numbers)
        image = np.dstack([np.zeros_like(label), label, np.where(car, 100, 200).astype(np.uint8)])
        cv2.imwrite(str(folder / f"images/{number}.png"), image)


def test_evaluation_of_a_model_with_classes(folders, monkeypatch, capsys):
    """One of four images has its car found in pieces of sky; the others are as labeled."""
    from evaluation import __main__ as evaluation

    draw(folders / "both", [1, 2, 3])
    network = Drawn("car", "the sky")
    monkeypatch.setattr(evaluation, "load", lambda args: (network, segmentation.Settings(threshold=0.5)))
    argv = f"--modeldir x --srcdir {folders / 'both'} --classes --json"
    assert evaluation.main(argv.split()) == 0
    score = {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)}
    assert score["IoU car"] == pytest.approx(3 / 4)
    sky = 32 * 48 - 160 - 300
    assert score["IoU the sky"] == pytest.approx(4 * sky / (4 * sky + 160))
    # 70 is to be ignored; the car found as one, whatever its pixels, can only be a car
    assert score["AP car"] == 1 and score["right class of true instances"] == 1
    shutil.rmtree(folders / "both/labels")
    assert evaluation.main(argv.split()) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == {"mIoU", "IoU car", "IoU the sky"}


def test_results_name_the_classes(folders, tmp_path, monkeypatch):
    """What inference writes of a network that finds the label's instances, its cars as cars and its sky as sky."""
    import inference

    draw(folders / "both")
    network = Drawn("car", "van", "the sky")
    monkeypatch.setattr(inference.segmentation, "load_network", lambda *args, **more: network)
    monkeypatch.setattr(utils, "read_classes", lambda modeldir: network.classes)
    argv = f"--indir {folders / 'both/images'} --outdir {tmp_path / 'out'} --json {tmp_path / 'l'} --keep-names "
    argv += "--bandwidth 1 --threshold 0.5 --confidence 0 --save overlay,classes,instances.json,instances.csv"
    assert inference.main(argv.split()) == 0
    line = json.loads((tmp_path / "l").read_text().splitlines()[0])
    assert line["classes"] == ["van", "car"]  # the larger one first, which looks like sky
    e = np.exp([9.0, 4.0, 0.0])
    np.testing.assert_allclose(line["class_scores"], [e[1] / e.sum(), e[0] / e.sum()], atol=1e-4)
    assert len(line["lane_classes"]) == len(line["lanes"]) and {*line["lane_classes"]} <= {"car", "van"}
    coco = json.loads((tmp_path / "out/instances.json").read_text())
    assert coco["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}]
    assert [one["category_id"] for one in coco["annotations"]][:4] == [2, 1, 2, 1]
    rows = [row.split(",")[-2:] for row in (tmp_path / "out/instances.csv").read_text().split()]
    assert rows[0] == ["class", "class_score"] and [name for name, _ in rows[1:3]] == ["van", "car"]
    classes, image = (cv2.imread(str(path)) for path in (tmp_path / "out/0_classes.png", folders / "both/images/0.png"))
    colors = {tuple((2 * classes[y, x].astype(int) - image[y, x]).tolist()) for y, x in ((18, 12), (31, 40), (25, 30))}
    assert len(colors) == 2  # a car, and the sky and what looks like it
    overlay = cv2.imread(str(tmp_path / "out/0_cluster.png"))
    assert (overlay[12:16, 0:30] > 200).all(axis=2).any()  # the car's name, in its middle row
    assert inference.main(argv.split()) == 0  # its own files may be replaced


def test_classes_of_lanes_in_tusimples_labels(tmp_path):
    from data.tusimple_dataset_processing import process

    source = tmp_path / "source"
    (source / "clips").mkdir(parents=True)
    lanes, rows = [[10, 20, 30], [60, 60, -2], [90, 80, 70]], [20, 40, 60]
    lines = [{"raw_file": f"clips/{name}.jpg", "lanes": lanes, "h_samples": rows} for name in "abc"]
    lines[1]["classes"] = [3, 2, 2]
    for line in lines:
        cv2.imwrite(str(source / line["raw_file"]), np.zeros((72, 128, 3), np.uint8))
    (source / "label_data_1.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kinds = source / "kinds.json"

    def write(names, *entries):
        kinds.write_text("".join(json.dumps(entry) + "\n" for entry in ({"classes": names}, *entries)))
        return process([source], tmp_path / "out", overwrite=True, lane_classes=kinds)

    names, right = {"2": "solid", "3": "dashed white"}, {"raw_file": "clips/a.jpg", "classes": [2, 3, 3]}
    assert write(names, right)[0] == 3
    assert read_class_names(tmp_path / "out") == [ClassName(2, "solid"), ClassName(3, "dashed white")]
    for number, expected in enumerate(([2, 3, 3], [3, 2, 2], [255, 255, 255])):
        label, classes = (cv2.imread(str(tmp_path / f"out/{p}/{number:04d}.png"), -1) for p in ("labels", "classes"))
        for value, kind in zip((0, 20, 70, 120), (0, *expected), strict=True):
            assert np.unique(classes[label == value]).tolist() == [kind]
    for entry in (right | {"classes": [2, 3]}, right | {"classes": [2, 3, 4]}, right | {"classes": [[2], 3, 3]}, []):
        with pytest.raises(UserError, match=r"kinds\.json|a\.jpg: found classes \["):
            write(names, entry)
    assert process([source], tmp_path / "out", overwrite=True)[0] == 3
    assert not (tmp_path / "out/classes").exists() and not (tmp_path / "out/classes.txt").exists()


@pytest.mark.parametrize("change", [{"classes": ["a", "b"]}, {"classes": "abc"}, {"stuff": ["d"]}])
def test_config_whose_classes_do_not_fit_is_named(tmp_path, change):
    network = {"input_shape": [16, 24, 3], "classes": 3}
    config = {"network": network, "classes": list("abc"), "stuff": ["b"]}
    utils.save_model(tmp_path, miniature(network), config)
    assert utils.read_classes(tmp_path) == {"a": False, "b": True, "c": False}
    utils.save_model(tmp_path, miniature(network), config | change)
    with pytest.raises(UserError, match=r"config\.json: classes"):
        utils.read_classes(tmp_path)
