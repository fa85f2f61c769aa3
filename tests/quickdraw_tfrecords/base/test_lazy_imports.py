"""TFDS is imported while other threads work, and import things themselves."""

import subprocess
import sys

import pytest

# A thread imports and calls things all the time.
PROGRAM = """
import sys, threading
from quickdraw_tfrecords.base import lazy_imports

if "kept" in sys.argv:
    lazy_imports.keep_to_their_thread()
failures, ended = [], threading.Event()

def work():
    while not ended.is_set():
        try:
            from quickdraw_tfrecords.base.tables import to_text
            to_text([("a",)])
        except Exception as error:
            failures.append(error)

thread = threading.Thread(target=work)
thread.start()
import tensorflow_datasets as tfds
tfds.core.DatasetInfo, tfds.folder_dataset.write_metadata, tfds.features.ClassLabel
ended.set()
thread.join()
print(len(failures), failures[:1])
"""


def failures(*arguments: str) -> int:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(out.split()[0])


def test_threads_import_what_they_want():
    assert failures("kept") == 0


@pytest.mark.slow
def test_this_is_still_needed():
    assert failures() > 0
