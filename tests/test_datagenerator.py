"""Pairs, reading, resizing, augmentation and the pipeline's determinism."""

import io
import itertools
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image

import datagenerator
from data.files import count_images, find_pairs
from datagenerator import View, augment, batches, make_dataset, prepare_image, prepare_label, read_image, read_pair
from evaluation.instances import instance_score, read_pairs
from run.command import UserError
from run.label_statistics import measure_labels
from run.pairs import balance_pairs


def write_one(folder, image, label, stem="a"):
    """Write a pair to a data folder; returns its pairs."""
    for kind, array in (("images", image), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / kind / f"{stem}.png"), array)
    return find_pairs(folder)


def write_noise(folder, stem, size=(48, 64), ids=(0, 20, 220), dtype=np.uint8):
    """A pair of noise and stripes of ids; returns the pairs of the folder."""
    label = np.repeat(np.array(ids, dtype), -(-size[1] // len(ids)))[None, : size[1]].repeat(size[0], axis=0)
    return write_one(folder, np.random.default_rng(int(stem)).integers(0, 256, (*size, 3), np.uint8), label, stem)


@pytest.fixture
def folder(tmp_path):
    for i in range(7):
        write_noise(tmp_path, f"{i:04d}")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "images/0003.png").unlink(), "0003"),
        (lambda folder: (folder / "labels/0003.png").unlink(), "0003"),
        (lambda folder: (folder / "images/0001.bmp").touch(), r"0001.*same stem"),
        (lambda folder: (folder / "images").rename(folder / "imgs"), "images"),
        (lambda folder: [path.unlink() for path in (folder / "images").iterdir()], "images"),
    ],
)
def test_pairs_that_are_none_are_named(folder, change, words):
    assert find_pairs(folder)[1] == (str(folder / "images/0001.png"), str(folder / "labels/0001.png"))
    change(folder)
    with pytest.raises(UserError, match=words):
        find_pairs(folder)


def test_rare_numbers_of_instances_come_more_often(tmp_path):
    ids = [(0, 20, 70)] * 9 + [(0, 1, 2, 70), (0, 0, 0)]  # 2, 3 and no instance
    for i, values in enumerate(ids):
        pairs = write_noise(tmp_path, f"{i:04d}", ids=values)
    balanced = balance_pairs(pairs)
    assert [balanced.count(pair) for pair in pairs] == [1] * 9 + [3, 3]
    assert balance_pairs(pairs[:9]) == pairs[:9]


def test_split_is_the_originals():
    pairs = [(f"{i}", f"{i}") for i in range(40)]
    train, val = datagenerator.split_pairs(pairs)
    assert len(val) == 4 and sorted(train + val) == sorted(pairs) and datagenerator.split_pairs(pairs) == (train, val)
    assert len(datagenerator.split_pairs(pairs[:2])[1]) == 1
    with pytest.raises(UserError, match="valdir"):
        datagenerator.split_pairs(pairs[:1])


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:20], ""),
        (lambda content: b"", ""),
        (lambda content: b"no image", ""),
        (lambda content: png(np.full((48, 64, 3), (0, 0, 9), np.uint8)), "found colors"),
        (lambda content: png(np.zeros((40, 64), np.uint8)), "found 64x40 pixels, expected 64x48"),
    ],
)
def test_unusable_labels_are_named(folder, damage, words):
    label = folder / "labels/0002.png"
    label.write_bytes(damage(label.read_bytes()))
    with pytest.raises(UserError, match=rf"0002\.png: {words}"):
        collect(make_dataset(find_pairs(folder), (16, 16), 2))


IDS = np.repeat(np.uint8([0, 1, 1, 7, 7, 7, 255, 255]), 8)[None].repeat(48, axis=0)  # 48x64


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gray", None),
        ("palette", None),
        ("rgb", None),
        ("palette without black", "found colors"),
        ("alpha", "found colors"),
        ("jpg", "found a jpg, whose compression"),
        ("webp", "found a lossy webp"),
    ],
)
def test_labels_are_read_if_their_meaning_is_clear_whatever_their_suffix(kind, words, tmp_path):
    image = Image.fromarray(IDS, "L" if "palette" not in kind else "P")
    if "palette" in kind:
        image.putpalette(([9, 9, 9] if words else [0, 0, 0]) + [128, 0, 0] * 255)  # one color, two ids
    elif kind in ("rgb", "webp"):
        image = image.convert("RGB")
    elif kind == "alpha":
        image.putalpha(Image.fromarray(np.where(IDS > 0, 255, 0).astype(np.uint8)))
    image.save(tmp_path / "a.png", {"jpg": "JPEG", "webp": "WEBP"}.get(kind, "PNG"))
    if words:
        with pytest.raises(UserError, match=rf"a\.png: {words}"):
            datagenerator.read_label(tmp_path / "a.png")
    else:
        label = datagenerator.read_label(tmp_path / "a.png")
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, IDS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest overrules the filter of data/files.py
def test_files_of_several_images_are_counted():
    noise = np.random.default_rng(0).integers(256, size=(3, 8, 9), dtype=np.uint8)
    images = [Image.fromarray(part) for part in noise]
    for form in ("TIFF", "GIF", "PNG", "WEBP"):
        for count in (1, 3):
            file = io.BytesIO()
            images[0].save(file, form, save_all=count > 1, append_images=images[1:count])
            assert count_images(file.getvalue()) == count, form
            for length in (0, 3, 9, 30, 60, 150):
                assert count_images(file.getvalue()[:length]) >= 1
    assert count_images(cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()) == 1


def test_image_is_rgb_in_0_to_255_and_resized_bilinearly(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((9, 9, 3), (0, 0, 200), np.uint8))
    prepared = prepare_image(read_image(tmp_path / "red.png"), (8, 16))
    assert prepared.shape == (8, 16, 3) and prepared.dtype == np.float32
    assert (prepared == [200, 0, 0]).all()
    image = np.repeat(np.array([[0, 100]], np.uint8)[:, :, None], 3, axis=2)
    # the centers stand at -0.25, 0.25, 0.75, 1.25 of the two pixels
    assert prepare_image(image, (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize("dtype,ids", [(np.uint8, (0, 20, 70, 220)), (np.uint16, (0, 20, 300, 65535))])
def test_no_new_ids_from_resize_or_augmentation(dtype, ids):
    image, label = np.zeros((90, 160, 3), np.uint8), np.repeat(np.array(ids, dtype), 40)[None].repeat(90, axis=0)
    assert set(np.unique(prepare_label(label, (33, 47)))) == set(ids)
    for seed in range(20):
        _, augmented = augment(image, label, (32, 48), np.random.default_rng(seed))
        assert augmented.dtype == np.int32 and set(np.unique(augmented)) <= set(ids)


@pytest.fixture
def unmoved(monkeypatch):
    """`augment` moves nothing and leaves the light; what is seen of the image is still random."""
    monkeypatch.setattr(datagenerator, "_random_affine", lambda source, rng: np.eye(2, 3))
    monkeypatch.setattr(datagenerator, "_random_turn", lambda frame, size, rng: np.eye(2, 3))
    monkeypatch.setattr(datagenerator, "_random_light", lambda image, rng: image)


def test_identity_warp_is_the_plain_resize(unmoved):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (36, 64, 3), np.uint8), (256, 144), interpolation=cv2.INTER_CUBIC)
    label = cv2.resize(rng.integers(0, 4, (36, 64), np.uint8), (256, 144), interpolation=cv2.INTER_NEAREST)
    warped, warped_label = augment(image, label, (72, 128), rng)
    assert np.abs(warped[1:-1, 1:-1] - prepare_image(image, (72, 128))[1:-1, 1:-1]).max() <= 3
    assert (warped_label != prepare_label(label, (72, 128))).mean() < 0.01


def test_network_size_keeps_proportions():
    for shape, expected in (
        ((720, 1280), (288, 512)),
        ((590, 1640), (184, 512)),  # CULane: 184.2
        ((387, 1280), (152, 512)),  # KITTI: 154.8, nearer to 19 * 8 than to 20 * 8
        ((1280, 720), (728, 408)),  # portrait: twice the pixels, 2 * 288 * 512 = 724.1 * 407.3
        ((8, 10000), (8, 512)),
    ):
        assert datagenerator.network_size(shape, (288, 512), "aspect") == expected
        assert datagenerator.network_size(shape, (288, 512)) == (288, 512)


@pytest.mark.parametrize("shape", [(120, 400), (400, 400)])
def test_augmentation_keeps_proportions(shape, unmoved):
    """A disk stays as wide as it is high, and as the width says, wherever the rows end up."""
    label = np.zeros(shape, np.uint8)
    cv2.circle(label, (200, shape[0] // 2), 50, 7, -1)
    image, tops = cv2.merge([label * 36] * 3), set()
    for seed in range(20):
        warped, found = augment(image, label, (64, 100), np.random.default_rng(seed), "aspect")
        rows, columns = found.any(axis=1), found.any(axis=0)
        assert columns.sum() in (24, 25, 26) and set(np.unique(found)) == {0, 7}
        assert np.abs(warped[:, :, 0] / 252 - found / 7).mean() < 0.02
        if not (rows[0] or rows[-1]):  # cut off at the border
            assert rows.sum() in (24, 25, 26)
            tops.add(rows.argmax())
    assert len(tops) > 5


def test_crops_are_parts_at_the_images_own_scale(unmoved):
    """Without a turn a crop is a piece of the image, from anywhere."""
    label = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    tops = set()
    for seed in range(20):
        crop, found = augment(image, label, (32, 40), np.random.default_rng(seed), "crop")
        top, left = divmod(int(found[1, 1]), 80)
        tops.add(top)
        np.testing.assert_array_equal(found[1:-1, 1:-1], label[top : top + 30, left : left + 38])
        # half a pixel at most from the grid
        assert np.abs(crop[1:-1, 1:-1] - image[top : top + 30, left : left + 38]).mean() < 60
    assert len(tops) > 8


def test_a_crop_lies_around_an_instance_large_or_small_alike(unmoved):
    """Of four pixels and of a thousand: each is in about half of the crops, anywhere in them."""
    label = np.zeros((300, 400), np.uint16)
    label[150:152, 300:302], label[200:225, 60:100] = 300, 2
    image, small, large, rows = np.zeros((300, 400, 3), np.uint8), 0, 0, []
    for seed in range(200):
        found = augment(image, label, (64, 64), np.random.default_rng(seed), "crop")[1]
        small, large = small + (found == 300).any(), large + (found == 2).any()
        rows += [np.nonzero(found == 300)[0].mean()] if (found == 300).any() else []
    assert small + large == 200 and 80 <= small <= 120
    assert min(rows) < 6 and max(rows) > 57 and 27 < np.mean(rows) < 36
    assert not augment(image, 0 * label, (64, 64), np.random.default_rng(0), "crop")[1].any()
    for seed in range(20):
        assert (augment(image, label, (64, 64), np.random.default_rng(seed), "crop", ignore=300)[1] == 2).any()


def test_crops_are_turned_about_their_middle():
    label = np.zeros((64, 64), np.uint8)
    label[28:36, 8:56] = 1  # a bar across the middle
    image, upright = cv2.merge([label * 200] * 3), 0
    for seed in range(40):
        _, found = augment(image, label, (64, 64), np.random.default_rng(seed), "crop")
        rows, columns = np.nonzero(found)
        assert abs(rows.mean() - 31.5) < 1.5 and abs(columns.mean() - 31.5) < 1.5
        assert 0.6 < len(rows) / label.sum() < 1.6  # scaled by up to 1.22 each way
        upright += np.ptp(rows) > np.ptp(columns)
    assert 10 < upright < 30


def test_small_images_fill_a_crop_and_zoom_enlarges_them_before(tmp_path):
    pairs = write_noise(tmp_path, "0000", size=(20, 30))
    original, shown = datagenerator.read_label(pairs[0][1]), read_image(pairs[0][0])
    ((image, label, _),) = collect(make_dataset(pairs, (64, 64), 1, view=View("crop")))
    assert image.shape == (1, 24, 32, 3)  # whole, to multiples of 8
    np.testing.assert_array_equal(image[0, :20, :30], shown)
    np.testing.assert_array_equal(label[0, :20, :30], original)
    assert not label[0, 20:].any() and not image[0, :, 30:].any()
    ((image, label, _),) = collect(make_dataset(pairs, (64, 64), 1, view=View("crop", 2)))
    assert image.shape == (1, 40, 64, 3)
    np.testing.assert_array_equal(label[0, :, :60], original.repeat(2, axis=0).repeat(2, axis=1))
    # a fourth of the neighbor, each way
    rows = 0.75 * shown[2].astype(float) + 0.25 * shown[3]
    np.testing.assert_allclose(image[0, 5, 2:60:2], 0.75 * rows[1:] + 0.25 * rows[:-1], atol=1)


def test_normalized_images_are_stretched_from_black_to_white(tmp_path):
    image = np.random.default_rng(2).gamma(2.0, 9.0, (80, 120, 3)).clip(0, 120).astype(np.uint8)
    image[0, 0] = 255  # a hot pixel
    low, high = np.percentile(image, (1, 99.8), method="inverted_cdf").astype(float)
    found = datagenerator.normalize(image)
    assert high < 120 and found.dtype == np.uint8
    assert np.abs(found - np.clip((image - low) * 255 / (high - low), 0, 255)).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(datagenerator.normalize(found), found)
    empty = np.full((80, 120, 3), 7, np.uint8)
    empty[5, 5] = 90
    np.testing.assert_array_equal(datagenerator.normalize(empty), empty)
    pairs = write_one(tmp_path, image[:, :, ::-1], image[:, :, 0])
    for normalized, expected in ((False, image), (True, found)):
        (seen,) = collect(make_dataset(pairs, (80, 120), 1, view=View(normalize=normalized)))
        np.testing.assert_array_equal(seen[0][0], expected)
        np.testing.assert_array_equal(seen[1][0], image[:, :, 0])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_camera_of_12_bits_is_as_bright_as_one_of_8(suffix, tmp_path):
    gray, path = np.arange(4096, dtype=np.uint16).reshape(64, 64), tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), cv2.merge([gray, 0 * gray, gray // 2]))
    red, green, blue = cv2.split(read_image(path))
    assert (red.max(), green.max(), blue.max()) == (127, 0, 255)
    np.testing.assert_array_equal(blue, np.round(gray / 4095 * 255))
    for value, expected in ((0, 0), (255, 255), (256, 64), (1023, 255), (16383, 255), (16384, 64), (60000, 233)):
        cv2.imwrite(str(path), np.full((4, 4), value, np.uint16))
        found = read_image(path)
        assert found.max() == expected and found.shape == (4, 4, 3) and found.dtype == np.uint8, value


def test_validation_sees_images_whole_and_training_one_size(tmp_path):
    for number, size in enumerate([(36, 64), (20, 64), (64, 64)]):
        pairs = write_noise(tmp_path, f"{number:04d}", size=size)
    whole = collect(make_dataset(pairs, (72, 128), 1, view=View("aspect")))
    assert [batch[0].shape for batch in whole] == [(1, 72, 128, 3), (1, 40, 128, 3), (1, 128, 128, 3)]
    for augmented in (False, True):
        stream = make_dataset(pairs, (72, 128), 3, seed=1, augmented=augmented, view=View("aspect"))
        assert [part.shape for part in collect(stream, 1)[0]] == [(3, 72, 128, 3), (3, 72, 128), (3,)]


def test_without_augmentation_the_image_stands_in_the_middle(tmp_path):
    """Twice as wide as high in a square: a quarter of the rows above and below is black and background."""
    pairs = write_one(tmp_path, np.full((32, 64, 3), 9, np.uint8), np.full((32, 64), 9, np.uint8))
    for part in collect(make_dataset(pairs, (64, 64), 1, seed=1, view=View("aspect")), 1)[0][:2]:
        assert (part[0, 16:48] == 9).all() and not part[0, :16].any() and not part[0, 48:].any()


def collect(dataset, count=None):
    """Batches, all or so many, as arrays."""
    return [[part.numpy() for part in batch] for batch in itertools.islice(batches(dataset), count)]


def test_pipeline_is_deterministic_and_can_go_on(folder):
    pairs = find_pairs(folder)

    def take(count, seed, first=0):
        share = datagenerator.Share(first)
        return collect(make_dataset(pairs, (16, 24), 2, seed, augmented=True, share=share), count)

    first, again, other, later = take(6, 1), take(6, 1), take(6, 2), take(2, 1, 8)
    for a, b in zip([*first, *first[4:]], [*again, *later], strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_training_reads_each_pair_once_a_round_and_validation_once_in_order(folder):
    pairs = find_pairs(folder)
    index = np.concatenate([batch[2] for batch in collect(make_dataset(pairs, (16, 16), 1, seed=3), 21)])
    assert all(sorted(part) == list(range(7)) for part in index.reshape(3, 7)) and (index[:7] != index[7:14]).any()
    read = collect(make_dataset(pairs, (16, 24), 4))
    assert [batch[0].shape for batch in read] == [(4, 16, 24, 3), (3, 16, 24, 3)]
    assert np.concatenate([batch[2] for batch in read]).tolist() == list(range(7))
    np.testing.assert_array_equal(read[1][0][1], prepare_image(read_image(pairs[5][0]), (16, 24)))


@pytest.mark.parametrize("gray", [12, 90])
def test_dark_images_stay_visible(gray):
    """What is brighter than its surroundings stays so."""
    image = np.full((64, 64, 3), gray // 2, np.uint8)
    image[16:48, 16:48] = 2 * gray
    changed = [datagenerator._random_light(image.astype(np.float32), np.random.default_rng(i)) for i in range(100)]
    assert sum(one[20:44, 20:44].mean() > one[:12].mean() + gray / 4 for one in changed) >= 95
    assert np.std([one.mean() for one in changed]) > gray / 6  # and light changes all the same


@pytest.mark.parametrize(
    ("orientation", "turned", "assumed"),
    [(1, False, False), (6, True, False), (6, False, False), (8, False, False), (3, True, True)],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_image_and_label_have_one_view(tmp_path, capsys, monkeypatch, orientation, turned, assumed, suffix):
    """Labels drawn on the turned view (EXIF) or on the stored one: the size tells, else a warning."""
    monkeypatch.setattr(datagenerator, "_TURNED", itertools.count())
    corner, exif = np.zeros((48, 64), np.uint8), Image.Exif()
    corner[:16, :16], exif[274] = 1, orientation
    stored = Image.fromarray(cv2.merge([40 + 210 * corner] * 3))
    if turned:
        corner = np.ascontiguousarray(np.rot90(corner, {3: 2, 6: -1}[orientation]))
    for name in "ab":
        write_one(tmp_path, corner, corner, name)
        (tmp_path / f"images/{name}.png").unlink()
        stored.save(tmp_path / f"images/{name}{suffix}", exif=exif, quality=95)
    for image, label in map(read_pair, find_pairs(tmp_path)):
        np.testing.assert_array_equal(label, corner)
        assert image[label == 1].min() > 200 and image[label == 0].max() < 100
    said = capsys.readouterr().err.splitlines()
    assert len(said) == assumed and all("turned" in line and "images/a" in line for line in said)


def test_ignored_pixels_need_the_flag(tmp_path):
    pairs = write_noise(tmp_path / "data", "0", ids=(0, 7, 65535), dtype=np.uint16)
    write_noise(tmp_path / "found", "0", ids=(0, 7, 7))
    labels = tmp_path / "found/labels", tmp_path / "data/labels"
    for read in (
        partial(read_pair, pairs[0]),
        lambda ignore: measure_labels(pairs, (16, 16), ignore=ignore),
        lambda ignore: instance_score(read_pairs(*labels, ignore), ignore),
    ):
        for ignore in (None, 7):
            with pytest.raises(UserError, match=r"0\.png: found the label value 65535.*--ignore 65535"):
                read(ignore)
        result = read(65535)
    assert result["AP50"] == 1
