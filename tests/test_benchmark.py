"""The benchmark's stages run and its table is arithmetic."""

import numpy as np
import pytest
from conftest import ROOT, miniature, save_miniature

import utils
from benchmark import __main__ as benchmark


def test_every_stage_prints_its_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(utils, "build_model", miniature)
    model, images = save_miniature(tmp_path / "model"), ROOT / "inference_test/images"
    benchmark.main(["--modeldir", str(model), "--indir", str(images), "--repeat", "1"])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["stage", "variant", "ms", "range", "CPU ms", "ratio"]
    for stage, rows_of_it in ((stage, [row for row in rows if row[0] == stage]) for stage in benchmark.STAGES):
        assert len(rows_of_it) == {"network": 3, "cluster": 2, "end-to-end": 2}[stage]
        assert all(float(row[2]) >= 0 and row[3].count("-") == 1 for row in rows_of_it)
        assert rows_of_it[0][5] == "1.00"


def test_variants_take_turns_and_the_first_call_is_not_timed(monkeypatch):
    calls, now = [], iter(np.cumsum([0, 9, 0, 9, 0, 4, 0, 2, 0, 6, 0, 2, 0, 8, 0, 8]))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(benchmark.time, "process_time", lambda: 0.0)
    variants = [("slow", lambda: calls.append("slow"), 1), ("fast", lambda: calls.append("fast"), 2)]
    rows = list(benchmark.measure(variants, 3))
    assert calls == ["slow", "fast"] * 4
    assert rows == [
        ("slow", "6000.0", "4000.0-8000.0", "0.0", "1.00"),
        ("fast", "1000.0", "1000.0-4000.0", "0.0", "4.00"),  # 4 / 1, 6 / 1, 8 / 4
    ]


@pytest.mark.parametrize("flags", ["sleeping", "network --modeldir absent", "network --indir absent"])
def test_bad_flags_end_in_one_line(flags, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as exit_:
        benchmark.main(flags.split())
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert exit_.value.code == 2 and "error: " in error and flags.split()[-1] in error
