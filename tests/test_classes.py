"""Classes beside instances: files, losses image by image, a run of folders of both kinds, scores by hand."""

import json
import math
import shutil

import cv2
import keras
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
from enet import build_enet
from evaluation.classes import ClassScore, class_confusion, class_iou, true_classes
from export.formats import export
from loss import class_loss
from pipeline import segmentation
from pipeline.classes import find_classes
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


def test_class_that_has_no_line_is_named(folders):
    write_class_names(folders / "both", NAMES[1:])
    table = class_table(folders / "both", ["the sky"])
    with pytest.raises(UserError, match=r"0\.png: found class 3.*classes\.txt"):
        read_classes(ClassMap(str(folders / "both/classes/0.png"), table))


def collected(folders, *names, valdir="both", **flags):
    from run.flags import parse_args
    from run.pairs import collect_data

    argv = ["--srcdir", *(str(folders / name) for name in names), "--valdir", str(folders / valdir)]
    return collect_data(
        parse_args([*argv, "--modeldir", "none", *(f"--{key}={value}" for key, value in flags.items())])
    )


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


def mixed_batch():
    """Outputs of a network of three classes, and labels: image 0 has ids, 1 classes, 2 both."""
    rng = np.random.default_rng(2)
    outputs = {name: tf.constant(rng.normal(0, 2, (3, 8, 8, depth)), tf.float32) for name, depth in DEPTHS.items()}
    label = np.stack([rng.choice([0, 20, 70], (3, 8, 8)), rng.choice([0, 1, 2, 3, 255], (3, 8, 8))], axis=-1)
    label[1, :, :, 0], label[0, :, :, 1] = NO_LABEL, 255
    return outputs, label.astype(np.int32)


DEPTHS = {"embedding": 3, "semantic": 1, "classes": 3}
SETTINGS = train_step.LossSettings(reg=0.1, foreground=3.0, cls=2.0, class_weights=(2.0, 7.0, 1.5))


@pytest.mark.parametrize("ignore", [None, 70])
@pytest.mark.parametrize("background", [True, False])
def test_images_without_label_or_classes_have_no_such_loss(background, ignore):
    """Gradients of what is absent are 0, and the losses are those of the images that have what they compare with."""
    settings = {**vars(SETTINGS), "background": background, "ignore": ignore}
    outputs, label = mixed_batch()
    losses = train_step.make_losses(train_step.LossSettings(**settings), jit=False)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        terms = losses(outputs, label)
    gradients = tape.gradient(terms[0], outputs)
    for name, absent in (("embedding", 1), ("semantic", 1), ("classes", 0)):
        size = np.abs(gradients[name].numpy()).sum(axis=(1, 2, 3))
        assert size[absent] == 0 and (np.delete(size, absent) > 0).all() and np.isfinite(size).all(), name

    labeled = [0, 2]
    plain = train_step.make_losses(train_step.LossSettings(**{**settings, "cls": 0.0}), jit=False)
    some = {name: tf.gather(outputs[name], labeled) for name in ("embedding", "semantic")}
    expected = [float(term) for term in plain(some, label[labeled][..., 0])]
    np.testing.assert_allclose([float(term) for term in terms[1:5]], expected[1:], rtol=1e-5)
    expected = 2 * float(class_loss(outputs["classes"][1:], label[1:, :, :, 1], SETTINGS.class_weights))
    assert float(terms[5]) == pytest.approx(expected, rel=1e-5)
    assert float(terms[0]) == pytest.approx(sum(float(term) for term in terms[1:]), rel=1e-5)


def test_batch_without_any_label_or_class_costs_nothing():
    for absent, filling, expected in ((0, NO_LABEL, [True] * 4 + [False]), (1, 255, [False] * 4 + [True])):
        outputs, label = mixed_batch()
        label[..., absent] = filling
        terms = [float(term) for term in train_step.make_losses(SETTINGS, jit=False)(outputs, label)]
        assert [term == 0 for term in terms[1:]] == expected


def test_head_of_classes_leaves_the_others_first_weights():
    weights = []
    for classes in (0, 3):
        keras.utils.set_random_seed(4)
        weights.append({w.path: w.numpy() for w in build_enet((16, 16, 3), classes=classes).weights})
    assert {name.split("/")[0] for name in weights[1].keys() - weights[0].keys()} == {"classes"}
    assert all(np.array_equal(value, weights[1][name]) for name, value in weights[0].items())


def run_flags(folders, *names, out="run", steps=4):
    flags = f"--srcdir {' '.join(str(folders / name) for name in names)} --valdir {folders / 'both'} --modeldir none "
    flags += f"--outdir {folders / out} --logdir {folders / 'log'} --image-size 16 24 --batch-size 4 --steps {steps}"
    return (flags + " --val-every 1 --save-every 1 --reg 0.001 --deterministic").split()


def test_run_of_folders_of_both_kinds(folders, monkeypatch):
    """A run, its going on, what the model's folder says of its classes, and what runs that start from it keep."""
    monkeypatch.setattr(utils, "build_model", miniature)
    assert training.main(run_flags(folders, "plain", "street", "both")) == 0
    row = json.loads((folders / "run/log.jsonl").read_text().splitlines()[-1])
    assert row["train"]["l_class"] > 0 and row["val"]["l_class"] > 0 and 0 <= row["val"]["mIoU"] <= 1
    assert row["val"]["loss"] == pytest.approx(
        sum(row["val"][name] for name in train_step.loss_terms(DEPTHS)[1:]), abs=1e-4
    )
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
    again = [*run_flags(folders, "plain", out="plain_run", steps=1), "--modeldir", str(folders / "run")]
    again[again.index("--valdir") + 1] = str(folders / "plain")
    assert training.main(again) == 0
    assert list(utils.load_model(folders / "plain_run").output) == ["embedding", "semantic"]


def test_run_of_classes_alone_has_no_semantic_head(folders, monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)
    argv = run_flags(folders, "street", steps=1)
    argv[argv.index("--valdir") + 1] = str(folders / "street")
    assert training.main(argv) == 0
    assert list(utils.load_model(folders / "run").output) == ["embedding", "classes"]
    row = json.loads((folders / "run/log.jsonl").read_text())
    assert row["val"]["l_var"] == row["val"]["l_sem"] == 0 and "mIoU" in row["val"] and "AP" not in row["val"]


def test_folders_that_do_not_fit_are_named(folders):
    with pytest.raises(UserError, match=r"street.*0\.png.*--cls"):
        collected(folders, "plain", "street", cls=0)


def test_a_single_class_is_not_learned(folders):
    write_class_names(folders / "both", [ClassName(3, "car"), ClassName(7, "-"), ClassName(9, "-")])
    data = collected(folders, "plain", "both")
    assert data.classes == {} and {len(pair) for pair in data.pairs} == {2}


def test_folders_must_agree_in_what_is_stuff(folders):
    write_class_names(folders / "street", [NAMES[0], ClassName(7, "the sky"), NAMES[2]])
    with pytest.raises(UserError, match=r"classes\.txt: found the sky .*stuff"):
        collected(folders, "street", "both")


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
    assert set(result) == {"class AP", "AP car", "AP person", "right class", "right class of true instances"}
    # of cars 3 found and 2 true: up to an IoU of 0.75, six thresholds, 2 match, then 1; of persons none
    assert result["AP car"] == pytest.approx((6 * 2 / 3 + 4 * 1 / 4) / 10) and result["AP person"] == 0
    assert result["class AP"] == pytest.approx(result["AP car"] / 2)
    assert result["right class"] == pytest.approx(2 / 3) and result["right class of true instances"] == 2 / 4


class Drawn:
    """In place of a `Network`: it finds what a folder's files say, classes 1 and 2 swapped in the first image."""

    classes, outputs = {"car": False, "the sky": True}, ("embedding", "semantic", "classes")
    min_pixels, view, find_instances = 1, View(), segmentation.Network.find_instances

    def needs_tiles(self, shape):
        return False

    def predict(self, image):
        classes = np.select([image[:, :, 0] == 100, image[:, :, 0] == 200], [0, 1], 1)
        ids = image[:, :, 1].astype(np.float32)
        return {
            "embedding": np.dstack([ids, ids]),
            "semantic": np.where(ids > 0, 9.0, -9.0)[:, :, None].astype(np.float32),
            "classes": np.where(classes[:, :, None] == [0, 1], 9.0, 0.0).astype(np.float32),
        }


def test_evaluation_of_a_model_with_classes(folders, monkeypatch, capsys):
    """One of four images has its car found in pieces of sky; the others are as labeled."""
    from evaluation import __main__ as evaluation

    for number in range(4):
        label, classes = (cv2.imread(str(folders / f"both/{part}/{number}.png"), -1) for part in ("labels", "classes"))
        car = (classes == 3) & (number > 0)
        image = np.dstack([np.zeros_like(label), label, np.where(car, 100, 200).astype(np.uint8)])
        cv2.imwrite(str(folders / f"both/images/{number}.png"), image)
    monkeypatch.setattr(evaluation, "load", lambda args: (Drawn(), segmentation.Settings(threshold=0.5)))
    argv = f"--modeldir x --srcdir {folders / 'both'} --classes --json"
    assert evaluation.main(argv.split()) == 0
    score = {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)}
    assert score["IoU car"] == pytest.approx(3 / 4)
    sky = 32 * 48 - 160 - 300
    assert score["IoU the sky"] == pytest.approx(4 * sky / (4 * sky + 160))
    # 70 is to be ignored; the car found as one, whatever its pixels, can only be a car
    assert score["AP car"] == score["right class"] == 1 and score["right class of true instances"] == 1
    shutil.rmtree(folders / "both/labels")
    assert evaluation.main(argv.split()) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == {"mIoU", "IoU car", "IoU the sky"}


def test_results_name_the_classes(folders, tmp_path, monkeypatch, capsys):
    """What inference writes of a network that finds the label's instances, its cars as cars and its sky as sky."""
    import inference

    for number in range(2):
        label = cv2.imread(str(folders / f"both/labels/{number}.png"), -1)
        image = np.dstack([np.zeros_like(label), label, np.where(label == 20, 100, 200).astype(np.uint8)])
        cv2.imwrite(str(folders / f"both/images/{number}.png"), image)
    network = Drawn()
    network.classes = {"car": False, "van": False, "the sky": True}
    predict = network.predict

    def predict_three(image):
        outputs = predict(image)
        car, sky = np.split(outputs["classes"], 2, axis=2)
        outputs["classes"] = np.concatenate([car, np.full_like(car, 4.0), sky], axis=2)
        return outputs

    network.predict = predict_three
    utils.save_model(
        tmp_path / "model",
        miniature({"input_shape": [16, 16, 3], "classes": 3}),
        {"network": {"input_shape": [16, 16, 3], "classes": 3}, "classes": list(network.classes), "stuff": ["the sky"]},
    )
    monkeypatch.setattr(inference.segmentation, "load_network", lambda *args, **more: network)
    argv = (
        f"--modeldir {tmp_path / 'model'} --indir {folders / 'both/images'} --outdir {tmp_path / 'out'} --keep-names "
    )
    argv += f"--json {tmp_path / 'out.json'} --save overlay,classes,labels,instances.json,instances.csv"
    assert inference.main(argv.split()) == 0
    line = json.loads((tmp_path / "out.json").read_text().splitlines()[0])
    assert line["classes"] == ["van", "car"]  # the larger one first, which looks like sky
    e = np.exp([9.0, 4.0, 0.0])
    np.testing.assert_allclose(line["class_scores"], [e[1] / e.sum(), e[0] / e.sum()], atol=1e-4)
    assert len(line["lane_classes"]) == len(line["lanes"]) and {*line["lane_classes"]} <= {"car", "van"}
    coco = json.loads((tmp_path / "out/instances.json").read_text())
    assert coco["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}]
    assert [one["category_id"] for one in coco["annotations"]][:4] == [2, 1, 2, 1]
    rows = (tmp_path / "out/instances.csv").read_text().splitlines()
    assert rows[0].endswith("confidence,class,class_score") and [row.split(",")[-2] for row in rows[1:3]] == [
        "van",
        "car",
    ]
    classes = cv2.imread(str(tmp_path / "out/0_classes.png"))
    image = cv2.imread(str(folders / "both/images/0.png"))
    assert classes.shape == image.shape
    colors = {tuple((2 * classes[y, x].astype(int) - image[y, x]).tolist()) for y, x in ((18, 12), (31, 40), (25, 30))}
    assert len(colors) == 2  # a car, and the sky and what looks like it
    assert inference.main(argv.split()) == 0  # its own files may be replaced
    (tmp_path / "out/instances.json").write_text('{"categories": [{"id": 1, "name": "car"}], "annotations": []}')
    with pytest.raises(SystemExit):
        inference.main(argv.split())
    (tmp_path / "out/instances.json").unlink()
    network.classes = {}
    with pytest.raises(SystemExit):
        inference.main(argv.split())
    assert "--save classes: found a model without classes" in capsys.readouterr().err


def test_overlay_names_instances_where_they_are():
    import visualization

    label_map = np.zeros((100, 200), int)
    label_map[60:64, 20:60], label_map[10:20, 150:152] = 1, 2
    image = np.zeros((200, 400, 3), np.uint8)
    visualization.write_names(image, label_map, {1: "car", 2: "van", 3: "none"})
    rows, columns = np.nonzero(image.any(axis=2))
    assert {*(columns < 200)} == {True, False}
    for chosen, place in ((columns < 200, (80, 124)), (columns >= 200, (302, 30))):
        middle = [(values[chosen].min() + values[chosen].max()) / 2 for values in (columns, rows)]
        np.testing.assert_allclose(middle, place, atol=4)
    gray = np.full((100, 200, 3), 128, np.uint8)
    visualization.write_names(gray, np.pad([[1]], ((50, 49), (100, 99))), {1: "pedestrian"})
    letters, rim = (np.flatnonzero(which.any(axis=(0, 2)))[[0, -1]] for which in (gray > 200, gray < 60))
    np.testing.assert_allclose(rim, letters, atol=2)  # the rim is around the letters, not beside them


def test_classes_of_lanes_in_tusimples_labels(tmp_path):
    from data.tusimple_dataset_processing import process

    source = tmp_path / "source"
    (source / "clips").mkdir(parents=True)
    lanes, rows = [[10, 20, 30], [60, 60, -2], [90, 80, 70]], [20, 40, 60]
    lines = [{"raw_file": f"clips/{name}.jpg", "lanes": lanes, "h_samples": rows} for name in "abc"]
    lines[1]["classes"] = [3, 2, 2]
    for line in lines:
        cv2.imwrite(str(source / line["raw_file"]), np.zeros((72, 128, 3), np.uint8))
    kinds = source / "kinds.json"

    def write(names, *entries):
        (source / "label_data_1.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        kinds.write_text("".join(json.dumps(entry) + "\n" for entry in ({"classes": names}, *entries)))
        return process([source], tmp_path / "out", overwrite=True, lane_classes=kinds)

    names = {"2": "solid", "3": "dashed white"}
    assert write(names, {"raw_file": "clips/a.jpg", "classes": [2, 3, 3]})[0] == 3
    assert read_class_names(tmp_path / "out") == [ClassName(2, "solid"), ClassName(3, "dashed white")]
    for number, expected in enumerate(([2, 3, 3], [3, 2, 2], [255, 255, 255])):
        label, classes = (
            cv2.imread(str(tmp_path / f"out/{part}/{number:04d}.png"), -1) for part in ("labels", "classes")
        )
        assert [np.unique(classes[label == value]).tolist() for value in (0, 20, 70, 120)] == [
            [0],
            *([i] for i in expected),
        ]
    for entry, found in (
        ({"raw_file": "clips/a.jpg", "classes": [2, 3]}, r"a\.jpg: found classes \[2, 3\]"),
        ({"raw_file": "clips/a.jpg", "classes": [2, 3, 4]}, "kinds.json"),
        ({"raw_file": "clips/a.jpg", "classes": [[2], 3, 3]}, "kinds.json"),
        ([], "kinds.json"),
    ):
        with pytest.raises(UserError, match=found):
            write(names, entry)
    with pytest.raises(UserError, match="kinds.json"):
        write({"first": "solid"})
    assert process([source], tmp_path / "out", overwrite=True)[0] == 3
    assert not (tmp_path / "out/classes").exists() and not (tmp_path / "out/classes.txt").exists()


class InTiles(Drawn):
    tile = (16, 20)

    def needs_tiles(self, shape):
        return True

    def predict_part(self, image):
        return self.predict(image)


def test_tiles_keep_the_classes():
    rng = np.random.default_rng(6)
    image = rng.choice([100, 200], (40, 50, 3)).astype(np.uint8)
    image[:, :, 1] = 0
    outputs, label_map = segmentation.segment_outputs(InTiles(), image)
    assert outputs["classes"].shape == (40, 50, 2) and not label_map.any()
    expected = np.where(image[:, :, 0] == 100, 0, 2)  # no instance anywhere: a car is none
    assert np.array_equal(find_classes(InTiles(), outputs, image.shape), expected)


def test_export_has_the_classes(tmp_path):
    network = {"input_shape": [16, 24, 3], "classes": 3, "stage_two_repeat": 1}
    model = build_enet(**network)
    utils.save_model(tmp_path / "model", model, {"network": network, "classes": list("abc"), "stuff": []})
    export(tmp_path / "model", tmp_path / "out.tflite", "tflite")  # which compares all outputs with those of Keras
    runner = tf.lite.Interpreter(str(tmp_path / "out.tflite")).get_signature_runner()
    assert runner.get_output_details()["classes"]["shape"].tolist() == [1, 16, 24, 3]


@pytest.mark.parametrize(
    "change", [{"classes": ["a", "b"]}, {"classes": "abc"}, {"stuff": ["d"]}, {"classes": [1, 2, 3]}]
)
def test_config_whose_classes_do_not_fit_is_named(tmp_path, change):
    network = {"input_shape": [16, 24, 3], "classes": 3}
    config = {"network": network, "classes": list("abc"), "stuff": ["b"]}
    utils.save_model(tmp_path, miniature(network), config)
    assert utils.read_classes(tmp_path) == {"a": False, "b": True, "c": False}
    utils.save_model(tmp_path, miniature(network), config | change)
    with pytest.raises(UserError, match=r"config\.json: classes"):
        utils.read_classes(tmp_path)
