import pytest

from quickdraw_tfrecords.sources.download import http_ranges


@pytest.fixture
def few_attempts(monkeypatch):
    """A client that soon gives up on a server."""
    monkeypatch.setattr(http_ranges, "_ATTEMPTS", 2)
    monkeypatch.setattr(http_ranges, "_FIRST_ATTEMPTS", 1)
    monkeypatch.setattr(http_ranges, "_STEP_STALLS", 2)
