"""Grain over ArrayRecord files.

Tuned as https://google-grain.readthedocs.io and https://array-record.readthedocs.io advise:
one record a chunk, uncompressed, the index in memory, threads that read ahead; and a batch
is one call to the reader, which is several times faster than one a record.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tools.input_peers.contender import BATCH_SIZE, Batch, Split

_LABEL_BYTES = 4
_THREADS = 4
_BATCHES_AHEAD = 16


def write(split: Split) -> None:
    """Records of raw pixels and the label, in as many files as the split has shards."""
    from array_record.python import array_record_module

    folder = split.copies / "grain"
    folder.mkdir()
    for part, (images, labels) in enumerate(split.parts()):
        path = str(folder / f"{part:05d}.array_record")
        writer = array_record_module.ArrayRecordWriter(path, "group_size:1,uncompressed")
        for image, label in zip(images, labels.astype("<i4"), strict=True):
            writer.write(image.tobytes() + label.tobytes())
        writer.close()


def open_grain(split: Split) -> Iterator[Batch]:
    """A full permutation each epoch, read at random."""
    import grain

    paths = sorted(map(str, (split.copies / "grain").iterdir()))
    source = grain.sources.ArrayRecordDataSource(
        paths, reader_options={"index_storage_option": "in_memory"}
    )

    def read(rows: Sequence[int]) -> Batch:
        return _collate(source.__getitems__([int(row) for row in rows]))

    order = grain.MapDataset.range(split.examples).shuffle(seed=0).repeat()
    dataset = order.batch(BATCH_SIZE, batch_fn=list).map(read)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(_THREADS, _BATCHES_AHEAD)))


def _collate(records: Sequence[bytes]) -> Batch:
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    labels = np.ascontiguousarray(rows[:, -_LABEL_BYTES:]).view("<i4").reshape(-1)
    return rows[:, :-_LABEL_BYTES], labels
