"""TFDS is imported while other threads work, and import things themselves."""

from collections.abc import Callable
from concurrent import futures

from etils import epy

from quickdraw_tfrecords.base import lazy_imports, tables


def load() -> Callable[..., str]:
    from quickdraw_tfrecords.base.tables import to_text

    return to_text


def test_threads_import_what_they_want():
    lazy_imports.keep_to_their_thread()
    with futures.ThreadPoolExecutor(1) as other, epy.lazy_imports():  # as TFDS does
        assert other.submit(load).result() is tables.to_text
        assert load() is not tables.to_text
    assert load() is tables.to_text
