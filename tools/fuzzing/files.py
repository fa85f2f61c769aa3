"""What reads drawings in files: the sources, predict, and the manifest of a data set."""

import io
import json
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.bitmaps.pictures import read_picture
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.sources.ndjson import NdjsonSource
from quickdraw_tfrecords.sources.npz import NpzSource
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig
from tools.fuzzing.mutations import mutate_bytes, mutate_json
from trainer.serving import drawing_files

_SIDE = 8
_CLASSES = ("cat", "tree", "zigzag")


class InlinePool(futures.Executor):
    """Does in this process what would be done in another, so that its errors are seen."""

    _max_workers = 1  # as `workers.count` asks

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See `futures.Executor.submit`."""
        future: futures.Future[Any] = futures.Future()
        future.set_result(function(*args, **kwargs))
        return future


class Npy:
    """`.npy` files, for the converter and for predict."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch
        self._seed = to_npy(np.arange(5 * _SIDE**2, dtype=np.uint8).reshape(5, -1))

    def make(self, numbers: random.Random) -> bytes:
        """The header is damaged more often than the many bytes after it."""
        head, rest = self._seed[:128], self._seed[128:]
        if numbers.random() < 0.7:
            head = mutate_bytes(numbers, head)
        return head + rest[: numbers.choice((0, 64, len(rest), len(rest)))]

    def run(self, data: bytes) -> None:
        """Reads it both ways."""
        path = self._folder / "cat.npy"
        path.write_bytes(data)
        drain(lambda: drawing_files.read_bitmaps(path, _SIDE))
        source = NumpyBitmapSource.open(self._folder)
        source.read(0, np.arange(min(source.counts[0], 100)))


class Npz:
    """Sketch-RNN's `.npz` files of pickled arrays."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch
        steps = np.array([[5, 9, 0], [60, 0, 0], [0, 70, 1], [9, 9, 1]], np.int16)
        lists = np.empty(3, object)
        lists[:] = [steps, steps[:2], steps[1:]]
        self._seeds = [to_npy(lists), to_npy(np.stack([steps, steps]))]
        for protocol in (0, 2, 4, 5):
            head = to_npy(lists)
            start = 10 + struct.unpack("<H", head[8:10])[0]
            self._seeds.append(head[:start] + pickle.dumps(lists, protocol))

    def make(self, numbers: random.Random) -> bytes:
        """Damages a member, then perhaps the archive."""
        member = mutate_bytes(numbers, numbers.choice(self._seeds))
        data = to_zip([("train.npy", member), ("valid.npy", self._seeds[0])])
        return mutate_bytes(numbers, data) if numbers.random() < 0.3 else data

    def run(self, data: bytes) -> None:
        """Opens it as a source, and draws what is in it."""
        (self._folder / "cat.npz").write_bytes(data)
        source = NpzSource.open(self._folder, pool=InlinePool(), side=_SIDE, max_bad=1)
        source.read(0, np.arange(min(source.counts[0], 10)))


class Ndjson:
    """Lines of strokes, raw and simplified."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch
        self._seeds = [
            {"word": "cat", "drawing": [[[0, 255, 9], [0, 90, 255]], [[5], [7]]]},
            {"recognized": True, "drawing": [[[1.5, 700, 30], [2, 2, 900], [0, 10, 20]]]},
        ]

    def make(self, numbers: random.Random) -> bytes:
        """Damages values of a line more often than its text."""
        value = numbers.choice(self._seeds)
        lines = [json.dumps(each).encode() for each in (mutate_json(numbers, value), value)]
        data = b"\n".join(lines)
        return mutate_bytes(numbers, data) if numbers.random() < 0.4 else data

    def run(self, data: bytes) -> None:
        """Opens it as a source in each format, and for predict."""
        path = self._folder / "cat.ndjson"
        path.write_bytes(data)
        drain(lambda: drawing_files.read_strokes(path, _SIDE))
        for stroke_format in ("raw", "simplified"):
            source = NdjsonSource.open(
                self._folder, pool=InlinePool(), side=_SIDE, stroke_format=stroke_format, max_bad=1
            )
            source.read(0, np.arange(source.counts[0]))


class Picture:
    """PNG and JPEG files."""

    def __init__(self, scratch: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
        self._seeds = []
        for mode, kind in (("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("L", "JPEG")):
            file = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(file, kind)
            self._seeds.append(file.getvalue())

    def make(self, numbers: random.Random) -> bytes:
        """The head is damaged more often than the rest."""
        seed = numbers.choice(self._seeds)
        split = numbers.choice((64, len(seed)))
        return mutate_bytes(numbers, seed[:split]) + seed[split:]

    def run(self, data: bytes) -> None:
        """Makes a bitmap of it."""
        read_picture(io.BytesIO(data), _SIDE)


class Manifest:
    """Manifests with a right checksum, beside sound shards."""

    def __init__(self, scratch: Path) -> None:
        source = SyntheticSource(_CLASSES, side=20)
        config = ConvertConfig(per_class=20, shards=2)
        converter.convert(source, scratch, config, pool=InlinePool())
        self._folder = manifests.find_directory(scratch)
        self._fields = json.loads((self._folder / manifests.FILE_NAME).read_bytes())
        del self._fields["crc32c"]

    def make(self, numbers: random.Random) -> bytes:
        """Damages values of it more often than its text."""
        body = json.dumps(mutate_json(numbers, self._fields)).encode()[1:]
        if numbers.random() < 0.2:
            body = mutate_bytes(numbers, body)
        return b'{"crc32c": "%08x",\n' % crc32c(body) + body

    def run(self, data: bytes) -> None:
        """Opens the data set, and reads it."""
        (self._folder / manifests.FILE_NAME).write_bytes(data)
        info = qt.open_dataset(self._folder)
        for split in info.num_examples:
            for part in drawings.read_all(info, split):
                assert part.labels.max(initial=0) < info.num_classes


def drain(open_items: Callable[[], Iterable[object]]) -> None:
    """Reads all items; what is refused by one reader may still be hostile to the next."""
    try:
        for _ in open_items():
            pass
    except (DataError, UsageError):
        pass


def to_zip(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive, in which names may repeat."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def to_npy(array: Any) -> bytes:
    """A `.npy` file of an array."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()
