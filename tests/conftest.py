"""What all tests share: import paths, the real data, a tiny data set and a tiny trained run."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real TuSimple pictures and labels, which are not part of the project; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real pictures: ../shared/data is absent")
    return folder
