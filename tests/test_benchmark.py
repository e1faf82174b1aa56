"""Every stage of the benchmark runs and compares things that agree."""

import re

import pytest

import benchmark

STAGES = {
    "processing": "--pictures 2 --repeat 1",
    "data": "--size 64 96 --batch-size 1 --steps 1 --repeat 1",
    "loss": "--size 64 64 --batch-size 2 --repeat 1",
    "clustering": "--size 64 64 --bandwidth 1 --repeat 1",
}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_prints_its_table(stage, capsys):
    benchmark.main([stage, *STAGES[stage].split()])
    title, _, header, *rows = capsys.readouterr().out.strip().splitlines()
    assert title == stage and "ratio" in header and len(rows) >= 2
    if stage == "loss":
        assert all(float(row.split()[-1]) < 1e-4 for row in rows)  # the loop and our loss agree
    if stage == "clustering":
        assert all(float(re.search(r"([\d.]+) %", row).group(1)) > 99 for row in rows if "trained" in row)


def test_reference_loop_writes_the_same_files(tmp_path):
    from tusimple_dataset_processing import process

    (tmp_path / "source").mkdir()
    source = benchmark.sample_folder(tmp_path / "source", 2)
    benchmark.process_in_a_loop(source, tmp_path / "loop")
    process([source], tmp_path / "ours")
    for kind in ("images", "labels"):
        for path in (tmp_path / "loop" / kind).iterdir():
            assert path.read_bytes() == (tmp_path / "ours" / kind / path.name).read_bytes()


@pytest.mark.parametrize(
    "flags", ["clustering --repeat 0", "loss --batch-size 0", "data --size 60 64", "clustering --bandwidth -1"]
)
def test_bad_flags_end_in_one_line(flags, capsys):
    with pytest.raises(SystemExit) as exit_:
        benchmark.main(flags.split())
    assert exit_.value.code == 2 and flags.split()[1] in capsys.readouterr().err.strip().splitlines()[-1]
