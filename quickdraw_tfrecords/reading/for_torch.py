"""A split for PyTorch: batches of tensors, for `torch.utils.data.DataLoader`.

    dataset = TorchBatches("data", "train", batch_size=1024, shuffle=True)
    loader = DataLoader(dataset, batch_size=None, pin_memory=True)
    for epoch in range(5):
        for images, labels in loader:
            ...  # uint8[1024, 28, 28, 1], int32[1024]

The reader has threads of its own, so `num_workers=0` is fastest: worker processes would only
copy what they have read. PyTorch is no dependency of this package; this module needs it.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed
from torch.utils import data as torch_data

from quickdraw_tfrecords.reading.batches import Batches, batches
from quickdraw_tfrecords.reading.dataset import DatasetInfo

_MAX_WORKERS = 1024  # processes of a DataLoader


class TorchBatches(torch_data.IterableDataset):
    """Whole batches of a split, divided among ranks and the workers of each rank.

    Iterating again gives the order of the next epoch. Each rank gets as many batches as the
    others; where `drop_remainder` is not set, the last ones may be empty.

    Args:
      data: An open data set, or its path.
      split: As for `batches`.
      batch_size: Drawings in a batch.
      **options: As for `batches`, but for `epoch`, `worker` and `workers`.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | DatasetInfo,
        split: str,
        batch_size: int,
        **options: Any,
    ) -> None:
        self._open = functools.partial(batches, data, split, batch_size, **options)
        # In shared memory, because an iteration may run in worker processes, and those of the
        # next epoch may be others. Each counts for itself.
        self._epochs = torch.zeros(_MAX_WORKERS, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Decides the order of the next iteration, for a run that resumes."""
        self._epochs.fill_(epoch)

    def __len__(self) -> int:
        """Batches of this rank where the loader has `num_workers=0`."""
        return len(self._make(epoch=0))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        info = torch_data.get_worker_info()
        worker = info.id if info else 0
        epoch = int(self._epochs[worker])
        self._epochs[worker] += 1
        for columns in self._make(epoch=epoch):
            yield tuple(map(torch.from_numpy, columns))

    def _make(self, *, epoch: int) -> Batches:
        info = torch_data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        rank, ranks = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            rank, ranks = distributed.get_rank(), distributed.get_world_size()
        return self._open(epoch=epoch, worker=rank * workers + worker, workers=ranks * workers)
