"""Small data sets made once for all tests, from synthetic drawings."""

import os
from pathlib import Path

import pytest

from quickdraw_tfrecords import converter, workers
from quickdraw_tfrecords.converter import Settings
from quickdraw_tfrecords.sources.synthetic import SyntheticSource

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CLASS_NAMES = ("airplane", "cat", "The Mona Lisa", "tree", "zigzag")


@pytest.fixture(scope="session")
def pool():
    """Worker processes, shared by all conversions of the tests."""
    with workers.pool(2) as executor:
        yield executor


@pytest.fixture(scope="session")
def source() -> SyntheticSource:
    return SyntheticSource(CLASS_NAMES, seed=7)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory, source: SyntheticSource, pool) -> Path:
    """1,000 drawings of 5 classes: 720 / 80 / 200, in 6 / 1 / 2 shards. Do not change it."""
    path = tmp_path_factory.mktemp("data")
    converter.convert(source, path, Settings(per_class=200, shards=6, seed=3), pool=pool)
    return path


@pytest.fixture(scope="session")
def real_bitmaps() -> Path:
    """Google's own drawings, where QUICKDRAW_REAL names a folder of them."""
    path = Path(os.environ.get("QUICKDRAW_REAL", "")) / "numpy_bitmap"
    if not path.is_dir():
        pytest.skip("needs real drawings: set QUICKDRAW_REAL to a folder with numpy_bitmap/")
    return path
