"""The examples in the docstrings of modules hold."""

import doctest
import importlib

import pytest

MODULES = ("bitmaps.pictures", "bitmaps.quality", "bitmaps.rasterization", "sources.synthetic")


@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    result = doctest.testmod(importlib.import_module(f"quickdraw_tfrecords.{name}"))
    assert result.attempted
    assert not result.failed
