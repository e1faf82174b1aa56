"""Every stage of the benchmark runs and compares things that agree."""

import numpy as np
import pytest
from conftest import ROOT, miniature

import utils
from benchmark import __main__ as benchmark
from benchmark import stages as benchmark_stages
from benchmark import timing as benchmark_timing

STAGES = {
    "processing": "--images 2",
    "data": "--size 64 96 --batch-size 1 --steps 1",
    "loss": "--size 64 64 --batch-size 2",
    "training": "--size 64 96",
    "network": "--size 64 96",
    "clustering": "--size 64 64 --bandwidth 1",
    "curves": "--size 64 96",
    "end-to-end": "--size 64 96 --images 3",
}
VARIANTS = {
    "training": ["plain", "--jit", "--mixed-precision"],
    "network": ["graph", "XLA", "folded", "folded, XLA", "TFLite"],
    "curves": ["parabolas", "fit_lanes"],
    "end-to-end": ["one by one", "threads"],
}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """Model folder of a miniature network, which is traced and compiled in seconds."""
    folder = tmp_path_factory.mktemp("model") / "model"
    network = {"input_shape": [64, 96, 3], "embedding_dim": 3, "semantic": True}
    utils.save_model(folder, miniature(network), {"network": network})
    return folder


def cells_of(output):
    """Title and {header: cell} of each row of the markdown tables in the output."""
    title, _, header, _, *rows = output.strip().splitlines()
    names, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *rows)]
    return title, [dict(zip(names, row, strict=True)) for row in rows], names


@pytest.mark.parametrize("stage", STAGES)
def test_stage_prints_its_table(stage, capsys, monkeypatch, model_folder):
    monkeypatch.setattr(utils, "build_model", miniature)
    flags = [stage, *STAGES[stage].split(), "--repeat", "1", "--markdown"]
    if "modeldir" in benchmark.STAGES[stage][1] and stage != "clustering":
        flags += ["--modeldir", str(model_folder), "--indir", str(benchmark_stages.SAMPLES)]
    benchmark.main(flags)
    title, rows, names = cells_of(capsys.readouterr().out)
    assert title.startswith(stage) and rows[0]["ratio"] == "1" and len(rows) >= 2
    for row in rows:
        low, high = map(float, row["range"].split("-"))
        assert low <= float(row["ms"]) <= high
    if stage in VARIANTS:
        assert [row[names[0]] for row in rows] == VARIANTS[stage]
    if stage in ("loss", "network"):
        assert all(float(row["off by"]) < 1e-4 for row in rows)  # loop and loss, folded and unfolded agree
    if stage == "training":  # the same weights, images and number of steps
        losses = [float(row["loss"]) for row in rows]
        assert losses == pytest.approx([losses[0]] * 3, rel=0.1) and losses[2] != losses[0]
    if stage == "clustering":
        assert all(float(row["alike"].rstrip(" %")) > 99 for row in rows if "trained" in row["embeddings"])


def test_without_a_stage_all_are_in_one_table(capsys, monkeypatch):
    """The loop over the stages, with stages that take no time; the tests above run the real ones."""
    seen = []

    def stage(args):
        seen.append(args)
        return args.stage, ["kind", "method", *benchmark.TIMES, "more"], [["a", "b", 1, "1-1", 1, "x"]] * 2

    monkeypatch.chdir(ROOT)
    stages = {name: (stage, flags, short) for name, (_, flags, short) in benchmark.STAGES.items()}
    monkeypatch.setattr(benchmark, "STAGES", stages)
    benchmark.main(["--markdown", "--repeat", "7"])
    _, rows, names = cells_of(capsys.readouterr().out)
    assert names == ["stage", "variant", "ms", "range", "ratio"]
    assert [row["stage"] for row in rows[::2]] == list(STAGES) and rows[0]["variant"] == "a, b"
    assert all(args.repeat == 7 for args in seen)
    assert seen[0].images == 12 and seen[1].steps == 4 and seen[1].size == [256, 512]  # shorter than alone
    assert benchmark.parse_args(["data"])[0].steps == 8
    assert benchmark.parse_args(["--repeat", "7", "data"])[0].repeat == 7


def test_what_is_done_is_printed_when_a_stage_fails(capsys, monkeypatch):
    def fails(args):
        raise OSError("no space")

    done = ("processing", ["method", *benchmark.TIMES], [["a", 1, "1-1", 1]])
    monkeypatch.setattr(benchmark, "STAGES", {"one": (lambda args: done, {}, {}), "two": (fails, {}, {})})
    with pytest.raises(SystemExit) as exit_:
        benchmark.main([])
    output = capsys.readouterr()
    assert exit_.value.code == 2 and output.err == "benchmark: error: no space\n"
    assert output.out.splitlines()[-1].split() == ["processing", "a", "1", "1-1", "1"]


def test_ratio_says_how_many_times_faster_than_the_first():
    rows = benchmark_timing.time_rows({"slow": [0.4, 0.2, 0.3], "fast": [0.1, 0.1, 0.2]}, per=2, more=["x", "y"])
    assert rows == [["slow", "150.0", "100.0-200.0", "1", "x"], ["fast", "50.0", "50.0-100.0", "3", "y"]]


def test_warm_run_is_not_timed():
    calls = []
    seconds, results = benchmark_timing.measure(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, warm=True
    )
    assert calls == ["a", "b"] * 3 and [len(times) for times in seconds.values()] == [2, 2]


def test_parabolas_go_through_their_points():
    label_map = np.zeros((40, 60), int)
    rows = np.arange(5, 35)
    label_map[rows, (0.02 * rows**2 + 7).astype(int)] = 1
    label_map[3, 50:55] = 2  # one row, no parabola
    (curve,) = benchmark_stages.fit_parabolas(label_map)
    assert np.abs(np.polyval(curve, rows) - (0.02 * rows**2 + 6.5)).max() < 0.6


def test_reference_loop_writes_the_same_files(tmp_path):
    from data.tusimple_dataset_processing import process

    (tmp_path / "source").mkdir()
    source = benchmark_stages.sample_folder(tmp_path / "source", 2)
    benchmark_stages.process_in_a_loop(source, tmp_path / "loop")
    process([source], tmp_path / "ours")
    for kind in ("images", "labels"):
        for path in (tmp_path / "loop" / kind).iterdir():
            assert path.read_bytes() == (tmp_path / "ours" / kind / path.name).read_bytes()


@pytest.mark.parametrize(
    "flags",
    [
        "clustering --repeat 0",
        "loss --batch-size 0",
        "data --size 60 64",
        "clustering --bandwidth -1",
        "network --modeldir absent",
        "curves --modeldir tests",
        "end-to-end --images 0",
    ],
)
def test_bad_flags_start(flags, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as exit_:
        benchmark.main(flags.split())
    error = capsys.readouterr().err.strip()
    error = error.splitlines()[-1]
    assert exit_.value.code == 2 and "error: " in error
    assert flags.split()[1] in error or "tests: found no" in error or "absent: found no" in error
