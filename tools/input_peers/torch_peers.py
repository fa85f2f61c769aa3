"""PyTorch's DataLoader over a NumPy memory map, WebDataset, and MosaicML Streaming.

Each makes whole batches where it reads, which all three advise:
https://docs.pytorch.org/docs/stable/data.html#disable-automatic-batching,
https://github.com/webdataset/webdataset, https://docs.mosaicml.com/projects/streaming.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tools.input_peers.contender import BATCH_SIZE, SHUFFLE_BUFFER, WORKERS, Batch, Split


class MemoryMap:
    """A map-style dataset that is indexed by a whole batch of rows."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __len__(self) -> int:
        return self._split.examples

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        import torch

        images, labels = self._arrays
        return torch.from_numpy(images[rows]), torch.from_numpy(labels[rows])

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self._split.arrays()  # in the worker: a pickled map is a copy


def open_memory_map(split: Split) -> Iterator[Batch]:
    """A BatchSampler as the sampler: one fancy index a batch, in this process."""
    return _memory_map(split, workers=0)


def open_memory_map_workers(split: Split) -> Iterator[Batch]:
    """The same in worker processes, which must hand each batch over."""
    return _memory_map(split, workers=WORKERS)


def _memory_map(split: Split, *, workers: int) -> Iterator[Batch]:
    from torch.utils import data

    dataset = MemoryMap(split)
    sampler = data.BatchSampler(data.RandomSampler(dataset), BATCH_SIZE, drop_last=False)
    return _forever(
        data.DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
    )


def write_webdataset(split: Split) -> None:
    """Tar files of a raw image and a class each, as many as the split has shards."""
    import webdataset

    folder = split.copies / "webdataset"
    folder.mkdir()
    for part, (images, labels) in enumerate(split.parts()):
        with webdataset.TarWriter(str(folder / f"{part:05d}.tar")) as writer:
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                writer.write({"__key__": f"{row:09d}", "bin": image.tobytes(), "cls": int(label)})


def open_webdataset(split: Split) -> Iterator[Batch]:
    """Shards and a buffer shuffled, batched in the workers."""
    import webdataset

    paths = sorted(map(str, (split.copies / "webdataset").iterdir()))
    dataset = (
        webdataset.WebDataset(paths, shardshuffle=len(paths))
        .shuffle(SHUFFLE_BUFFER // WORKERS)
        .to_tuple("bin", "cls")
        .batched(BATCH_SIZE, collation_fn=_collate)
    )
    return _forever(
        webdataset.WebLoader(
            dataset,
            batch_size=None,
            num_workers=min(WORKERS, len(paths)),
            persistent_workers=True,
        )
    )


def write_mosaic(split: Split) -> None:
    """MDS files, uncompressed."""
    import streaming

    columns = {"image": "bytes", "label": "int"}
    with streaming.MDSWriter(out=str(split.copies / "mosaic"), columns=columns) as writer:
        for images, labels in split.parts():
            for image, label in zip(images, labels, strict=True):
                writer.write({"image": image.tobytes(), "label": int(label)})


def open_mosaic(split: Split) -> Iterator[Batch]:
    """Its default shuffle, over the files on this disk."""
    import streaming
    from torch.utils import data

    streaming.base.util.clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(
        local=str(split.copies / "mosaic"), shuffle=True, batch_size=BATCH_SIZE
    )
    return _forever(
        data.DataLoader(
            dataset,
            batch_size=BATCH_SIZE,
            num_workers=WORKERS,
            persistent_workers=True,
            collate_fn=_collate_dicts,
        )
    )


def _collate(samples: Sequence[tuple[bytes, Any]]) -> Batch:
    """One copy for the batch instead of one array a sample."""
    import torch

    images, labels = zip(*samples, strict=True)
    pixels = np.frombuffer(bytearray(b"".join(images)), np.uint8).reshape(len(images), -1)
    return torch.from_numpy(pixels), torch.from_numpy(np.array(labels).astype(np.int32))


def _collate_dicts(samples: Sequence[dict[str, Any]]) -> Batch:
    return _collate([(sample["image"], sample["label"]) for sample in samples])


def _forever(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader
