"""Videos in and out, and colors that stay with their lane."""

import functools
import http.server
import itertools
import json
import os
import threading

import cv2
import numpy as np
import pytest
from conftest import ctrl_c, draw_scene, full_disk, miniature, save_miniature, two_lines
from damage import write_frames

import inference
import utils
from pipeline import tracking, video
from run.command import UserError


def write_video(path, count=12, size=(96, 160)):
    scene, _ = draw_scene(np.random.default_rng(0))
    write_frames(path, (cv2.resize(np.roll(scene, i, axis=1), size[::-1]) for i in range(count)))


def read_video(path):
    """(all frames RGB, frames per second)."""
    clip = video.open_video(str(path))
    return [image for *_, image in video.read_frames(clip)], clip.fps


@pytest.fixture(scope="module")
def untrained_folder(tmp_path_factory):
    return save_miniature(tmp_path_factory.mktemp("untrained"))


@pytest.fixture
def untrained(untrained_folder, monkeypatch):
    monkeypatch.setattr(utils, "build_model", miniature)
    return untrained_folder


def draw_number(number):
    """(96, 160, 3) uint8: a number below 256 in binary as eight bars."""
    return np.tile((255 * np.unpackbits(np.uint8([number])).repeat(20))[None, :, None], (96, 1, 3))


def read_number(image):
    return int(np.packbits(image[48, 10::20, 0] > 127)[0])


def write_uneven(path, fps, ticks):
    """A Motion JPEG mkv whose frame number i, of `draw_number`, is shown at ticks[i] / fps seconds."""
    raw = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), fps, (160, 96), raw)
    for number, tick in enumerate(ticks):
        writer.set(cv2.VIDEOWRITER_PROP_PTS, int(tick))
        writer.set(cv2.VIDEOWRITER_PROP_KEY_FLAG, 1)
        writer.write(cv2.imencode(".jpg", draw_number(number))[1].reshape(1, -1))
    writer.release()
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == fps  # as a player is told
    return str(path)


UNEVEN = np.cumsum([0, *np.random.default_rng(0).integers(10, 57, 59)])  # milliseconds
TIMES = {  # frames per second of the head, ticks, rate of the result
    "pause": (30, [*range(10), *range(150, 161)], 30),
    "milliseconds": (1000, UNEVEN, 25),
}


@pytest.mark.parametrize("kind", TIMES)
def test_the_result_takes_as_long_as_the_video(kind, untrained, tmp_path, capsys, monkeypatch):
    """In the middle of each frame's time the result shows it."""
    fps, ticks, rate = TIMES[kind]
    path = write_uneven(tmp_path / "a.mkv", fps, ticks)
    monkeypatch.setattr(inference.visualization, "paint_instances", lambda image, _: image)
    inference.main(f"--modeldir {untrained} --outdir {tmp_path / 'out'} --video {path}".split())
    assert f"{len(ticks)} frames in" in capsys.readouterr().out
    frames, result_fps = read_video(tmp_path / "out/a.mp4")
    due, shown = np.array(ticks) / fps, [read_number(frame) for frame in frames]
    assert result_fps == rate and len(frames) / rate == pytest.approx(due[-1], abs=2 / rate)
    for number in range(len(due) - 1):
        if (due[number + 1] - due[number]) * rate > 1.5:
            assert shown[round((due[number] + due[number + 1]) / 2 * rate)] == number


def test_rates_that_mpeg_4_can_tell(tmp_path):
    for rate, every in ((30000 / 1001, 1), (71.4285, 1), (119.881, 1), (25.0, 7), (25.0, 9000)):
        fps = video.Video(None, "a", (4, 4), rate, every=every).result_fps
        assert fps == pytest.approx(max(rate / every, 0.1), rel=2e-4)
        with video.writing(tmp_path / "a.mp4", (96, 160), fps) as write:
            write(np.zeros((96, 160, 3), np.uint8), 0)
        assert read_video(tmp_path / "a.mp4")[1] == fps


def test_clocks_that_jump():
    class Clock:
        """A capture whose frames come at 0, 40, 40 ms, then a day later, then back at 0."""

        positions = iter([0, 40, 40, 86_400_000, 86_400_040, 0])

        def grab(self):
            self.position = next(self.positions, None)
            return self.position is not None

        def retrieve(self):
            return True, np.zeros((4, 4, 3), np.uint8)

        def get(self, _):
            return self.position

    clip = video.Video(Clock(), "a", (4, 4), 25.0)
    frames = [(number, round(25 * seconds)) for number, seconds, _ in video.read_frames(clip)]
    assert frames == [(number, number) for number in range(6)]


def test_a_part_of_the_frames_keeps_numbers_and_times(untrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ticks = np.array([*range(10), *range(20, 50)])
    write_uneven(tmp_path / "12:30.mkv", 20, ticks)
    monkeypatch.setattr(inference.visualization, "paint_instances", lambda image, _: image)
    flags = f"--modeldir {untrained} --json l --every 3 --from 0.25 --to 1.5 --video 12:30.mkv --outdir"
    inference.main([*flags.split(), "a [b]"])
    wanted = np.flatnonzero((ticks >= 5) & (ticks < 30))[::3]
    written = [json.loads(line) for line in (tmp_path / "l").read_text().splitlines()]
    assert [line["raw_file"] for line in written] == [f"12:30.mkv/{number:06d}" for number in wanted]
    assert [line["time"] for line in written] == pytest.approx(ticks[wanted] / 20)
    frames, fps = read_video("a [b]/12:30.mp4")
    assert fps == pytest.approx(20 / 3, abs=1e-3)
    due = np.round((ticks[wanted] - ticks[wanted[0]]) / 3).astype(int)
    assert [read_number(frames[place]) for place in due] == wanted.tolist()
    assert len(frames) == due[-1] + 1


def test_a_stream_by_its_url(untrained, tmp_path, capsys):
    write_video(tmp_path / "my clip.mp4", count=5)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://user:secret@127.0.0.1:{server.server_port}/"
        inference.main(f"--modeldir {untrained} --outdir {tmp_path / 'out'} --video {url}my%20clip.mp4".split())
        assert "5 frames" in capsys.readouterr().out
        with pytest.raises(UserError, match="could not be opened") as error:
            video.open_video(url + "none.mp4")
        server.shutdown()
    assert "secret" not in str(error.value)
    assert len(read_video(tmp_path / "out/my%20clip.mp4")[0]) == 5


def lines(label_map_size, bottoms, ids, top=20):
    """Label map of lines from the middle of row `top` to columns `bottoms` of the last row."""
    height, width = label_map_size
    label_map = np.zeros(label_map_size, np.uint8)
    for bottom, number in zip(bottoms, ids, strict=True):
        cv2.line(label_map, (width // 2, top), (int(bottom), height - 1), number, 2)
    return label_map.astype(np.int32)


def test_ids_follow_lanes_whatever_the_order():
    rng, tracker = np.random.default_rng(0), tracking.Tracker()
    for step in range(40):
        order = rng.permutation(4)
        bottoms = np.array([-40, 40, 120, 200]) + step
        label_map = lines((64, 160), bottoms[order], range(1, 5))
        ids = tracker.update(tracking.instance_profiles(label_map))
        if not step:
            first = ids[np.argsort(order)]
        np.testing.assert_array_equal(ids[np.argsort(order)], first)
    assert sorted(first) == [1, 2, 3, 4]


def test_lost_lanes_are_remembered_for_a_while():
    tracker = tracking.Tracker()
    both, one = (tracking.instance_profiles(lines((64, 160), b, range(1, len(b) + 1))) for b in ([20, 140], [140]))
    assert tracker.update(both).tolist() == [1, 2]
    for _ in range(tracking.MEMORY):
        assert tracker.update(one).tolist() == [2]
    assert tracker.update(both).tolist() == [1, 2]
    other = tracking.instance_profiles(lines((64, 160), [80], [1]))
    assert tracker.update(other).tolist() == [3]  # 1 and 2 are only out of sight
    for _ in range(tracking.MEMORY + 1):
        assert len(tracker.update(np.empty((0, 64)))) == 0
    assert tracker.update(other).tolist() == [1]


def test_a_part_of_a_lane_is_the_lane():
    """Its near half, then its far half, which have no row in common."""
    whole = tracking.instance_profiles(lines((64, 160), [10, 100], [1, 2]))
    near, far = whole.copy(), whole.copy()
    near[:, :45] = np.nan
    far[:, 45:] = np.nan
    tracker = tracking.Tracker()
    assert tracker.update(near).tolist() == [1, 2]
    assert tracker.update(far[::-1]).tolist() == [2, 1]


def test_instance_profiles_by_hand():
    profiles = tracking.instance_profiles(np.array([[1, 1, 0, 2], [0, 0, 0, 2]]))
    np.testing.assert_allclose(profiles, [[0.25, np.nan], [0.875, 0.875]])
    assert tracking.instance_profiles(np.zeros((5, 4), int)).shape == (0, 5)


def test_matching_is_the_best_of_all():
    """Against all permutations: the sum of the distances is the smallest."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        old = np.sort(rng.uniform(0, 0.1, 4))
        new = old + rng.normal(0, 0.01, 4)
        tracker = tracking.Tracker()
        tracker.update(np.repeat(old[:, None], 5, axis=1))
        ids = tracker.update(np.repeat(new[:, None], 5, axis=1))
        sums = {p: np.abs(new - old[list(p)]).sum() for p in itertools.permutations(range(4))}
        assert sums[tuple(ids - 1)] <= min(sums.values()) + 1e-9


def test_video_in_video_out(tiny_run, tmp_path, capsys, monkeypatch):
    """As many frames, as fast, painted; one line a frame."""
    monkeypatch.setattr(inference, "fit_lanes", two_lines)
    write_video(tmp_path / "my clip.mp4", size=(101, 155))
    flags = f"--modeldir {tiny_run} --outdir {tmp_path / 'out'} --save overlay,lanes --json {tmp_path / 'l'} --video"
    inference.main([*flags.split(), str(tmp_path / "my clip.mp4")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["my clip.mp4", "my clip_lanes.mp4"]
    source, _ = read_video(tmp_path / "my clip.mp4")
    written = [json.loads(line) for line in (tmp_path / "l").read_text().splitlines()]
    assert [line["raw_file"] for line in written] == [f"my clip.mp4/{i:06d}" for i in range(12)]
    for name in ("my clip", "my clip_lanes"):
        frames, fps = read_video(tmp_path / f"out/{name}.mp4")
        assert len(frames) == len(source) == 12 and fps == 20
        assert frames[0].shape == source[0].shape
        change = np.abs(np.array(frames, int) - source).max(axis=3)
        assert 0.005 < (change > 40).mean() < 0.3
    assert "12 frames" in capsys.readouterr().out


def test_frames_that_are_missing_are_told(untrained, tmp_path, capsys):
    """A video whose index promises more than its data hold."""
    path = tmp_path / "cut.avi"
    write_frames(path, np.random.default_rng(0).integers(0, 256, (20, 96, 160, 3), np.uint8), "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SystemExit, match="^3$"):
        inference.main(f"--modeldir {untrained} --outdir {tmp_path / 'out'} --video {path}".split())
    assert "cut off" in capsys.readouterr().err.splitlines()[-1]
    assert 5 <= len(read_video(tmp_path / "out/cut.mp4")[0]) < 18


@pytest.mark.parametrize("whole", [True, False])
def test_a_trimmed_mp4_is_not_cut_off(whole, tmp_path):
    """Of 40 frames an edit list shows the last 22; the key frame before them is the 13th."""
    write_frames(tmp_path / "a.mp4", map(draw_number, range(40)))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    place, ticks = data.index(b"mdhd") + 16, data.index(b"elst") + 12
    per_frame = int.from_bytes(data[place : place + 4]) // 20
    data[ticks : ticks + 8] = (1100).to_bytes(4) + (18 * per_frame).to_bytes(4)  # milliseconds shown, first tick
    if not whole:
        start, size = data.index(b"mdat") + 4, int.from_bytes(data[data.index(b"mdat") - 4 :][:4]) - 8
        data[start + size // 2 : start + size] = bytes(size - size // 2)
    (tmp_path / "a.mp4").write_bytes(data)
    clip = video.open_video(str(tmp_path / "a.mp4"))
    numbers = [read_number(image) for *_, image in video.read_frames(clip)]
    assert clip.total == 22 and (video.missing(clip) is None) == whole
    assert numbers == list(range(18, 40)) if whole else len(numbers) < 22


def test_h264_is_written_where_it_can_be(monkeypatch):
    """An encoder that opens and writes nothing is none."""
    real, opened = cv2.VideoWriter, []

    def writer(path, codec, *more):
        opened.append(codec)
        return real(path, cv2.VideoWriter_fourcc(*"mp4v"), *more)  # stands for H.264

    monkeypatch.setattr(video.cv2, "VideoWriter", writer)
    assert video.choose_codec((96, 160), 20) == "avc1" and opened == [cv2.VideoWriter_fourcc(*"avc1")]
    monkeypatch.setattr(video.cv2, "VideoWriter", lambda *_: real())
    assert video.choose_codec((96, 160), 20) == "mp4v"


def test_ctrl_c_leaves_a_video_that_plays(untrained, tmp_path, capsys):
    write_video(tmp_path / "long.mp4", count=1500)
    flags = f"--modeldir {untrained} --outdir {tmp_path / 'out'} --json {tmp_path / 'l'} --video"
    with ctrl_c(lambda: sum(path.stat().st_size for path in (tmp_path / "out").glob("*")) > 100_000):
        inference.main([*flags.split(), str(tmp_path / "long.mp4")])
    assert "interrupted" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["long.mp4"]
    frames, _ = read_video(tmp_path / "out/long.mp4")
    assert 5 < len(frames) < 1500 and len((tmp_path / "l").read_text().splitlines()) == len(frames)


def test_a_video_that_can_not_be_written_leaves_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    with full_disk(20_000), pytest.raises(OSError, match="a.mp4: the video could not be written"):
        with video.writing(tmp_path / "a.mp4", (96, 160), 20) as write:
            for number in range(50):
                write(noise, number / 20)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_utf_8(untrained, tmp_path, capfd):
    write_video(tmp_path / "a.mp4", count=1)
    folder, path = (tmp_path / os.fsdecode(name) for name in (b"stra\xdfe", b"dr\xe4ve.mp4"))
    path.write_bytes((tmp_path / "a.mp4").read_bytes())
    for source, outdir in ((path, tmp_path / "out"), (tmp_path / "a.mp4", folder)):
        with pytest.raises(SystemExit, match="^2$"):
            inference.main(["--modeldir", str(untrained), "--outdir", str(outdir), "--video", str(source)])
        assert "found a name that is no UTF-8" in capfd.readouterr().err
