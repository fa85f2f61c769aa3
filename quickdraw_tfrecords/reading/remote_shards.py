"""Shards in an object store: blocks are asked for ahead of their turn, many at a time.

An answer takes tens of milliseconds to begin, however small it is. So as many requests are on
their way as `read_ahead_mib` has room for, in the order in which their blocks will be read. What
has come takes room, too, until the last of it has been read.
"""

import bisect
import collections
import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.store_backends import Buffer
from quickdraw_tfrecords.base.stores import Location, Store
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardFile, ShardInfo, changed
from quickdraw_tfrecords.reading.blocks import Block, BlockReader, ReadState
from quickdraw_tfrecords.reading.local_cache import LocalCache

READ_AHEAD_MIB = 128.0

_REQUEST_BYTES = 8 * 2**20  # neighboring blocks that are asked for together, at most
_LEAST_SHARE = 1 / 4  # of the room, that any has of those that read at the same time

_Key = tuple[str, int]  # a block: its shard's name, and its index


@dataclasses.dataclass(frozen=True)
class RemoteFolder:
    """The folder of a data set in an object store.

    Attributes:
      store: Where it is.
      tags: Those that its objects had when it was opened, by name.
      read_ahead_bytes: How much may be on its way, or wait for its turn.
      cache: Where copies of shards are kept, if anywhere.
    """

    store: Store
    tags: Mapping[str, str]
    read_ahead_bytes: int = int(READ_AHEAD_MIB * 2**20)
    cache: LocalCache | None = None

    def open_copy(self, shard: ShardInfo) -> ShardFile:
        """Opens the copy of a shard, see `LocalCache.open`."""
        assert self.cache
        return self.cache.open(self.store, shard, tag=self.tags[shard.name])


def open_reader(
    place: Location | RemoteFolder,
    layout: RecordLayout,
    shards: Iterable[ShardInfo],
    state: ReadState,
) -> BlockReader:
    """What reads blocks of shards, wherever they are.

    Args:
      place: Where the shards are.
      layout: How their records are laid out.
      shards: All that blocks may be of.
      state: What has been read of the data set.
    """
    if isinstance(place, Path):
        return BlockReader(functools.partial(ShardFile, place), layout, shards, state)
    folder = RemoteFolder(place, {}) if isinstance(place, Store) else place
    if folder.cache:
        return BlockReader(folder.open_copy, layout, shards, state)
    return RemoteReader(folder, layout, shards, state)


class RemoteReader(BlockReader):
    """Reads blocks of shards in an object store, see `Reader`.

    Args:
      folder: Where the shards are.
      layout: How their records are laid out.
      shards: All that blocks may be of.
      state: What has been read of the data set.
      room: What it shares with others.
      plan: What will be read, in this order.
    """

    def __init__(
        self,
        folder: RemoteFolder,
        layout: RecordLayout,
        shards: Iterable[ShardInfo],
        state: ReadState,
        room: "_Room | None" = None,
        plan: Iterable[Block] = (),
    ) -> None:
        self._arguments = folder, layout, tuple(shards), state
        self._room = room or _Room(folder.read_ahead_bytes)
        self._ahead = _ReadAhead(folder, layout.stride, self._room, plan)
        open_shard = functools.partial(RemoteShard, folder, self._ahead)
        super().__init__(open_shard, *self._arguments[1:])

    def along(self, blocks: Iterable[Block]) -> "RemoteReader":
        """See `Reader.along`; the last windows of an epoch and the first of the next share room."""
        return RemoteReader(*self._arguments, self._room, blocks)

    def records(self, block: Block, scratch: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """See `BlockReader.records`."""
        yield from super().records(block, scratch)
        self._ahead.release(block)


class RemoteShard:
    """A shard that is read as a `ShardFile` is.

    Args:
      folder: Where it is.
      ahead: What gets its blocks.
      shard: What it is to be.
    """

    def __init__(self, folder: RemoteFolder, ahead: "_ReadAhead", shard: ShardInfo) -> None:
        self._folder, self._shard, self._ahead = folder, shard, ahead

    def records(self, start: int, stop: int, scratch: np.ndarray) -> Iterator[np.ndarray]:
        """See `ShardFile.records`; all are of one block."""
        index = bisect.bisect_right(self._shard.block_bounds, start) - 1
        first = self._shard.block_bounds[index]
        matrix = self._ahead.take(self._shard, index).reshape(-1, scratch.shape[1])
        for begin in range(start, stop, len(scratch)):
            yield matrix[begin - first : min(begin + len(scratch), stop) - first]

    def expect(self, start: int, stop: int, stride: int) -> None:
        """See `ShardFile.expect`; they are on their way."""

    def changed(self) -> DataError:
        """See `ShardFile.changed`."""
        return changed(self._folder.store / self._shard.name)


class _Room:
    """Memory for what is on its way, or waits for its turn; for several threads.

    Args:
      total: How much there is.

    Attributes:
      lock: Held while it is used.
      taken: Bytes that are.
    """

    def __init__(self, total: int) -> None:
        self._total, self.lock, self.taken = total, threading.RLock(), 0

    def has(self, size: int, *, own: int) -> bool:
        """Whether there is any for so many bytes more of one that has taken `own`."""
        share = self._total * _LEAST_SHARE
        return not own or own + size <= share or self.taken + size <= self._total


@dataclasses.dataclass
class _Request:
    """A request for blocks.

    Attributes:
      data: What comes.
      size: Bytes of it.
      unread: How many of the blocks have not been read.
    """

    data: futures.Future[Buffer]
    size: int
    unread: int


class _ReadAhead:
    """Blocks that are on their way or here; for several threads.

    What is asked for out of turn is asked for at once, so nobody ever waits for room.
    """

    def __init__(
        self, folder: RemoteFolder, stride: int, room: _Room, plan: Iterable[Block]
    ) -> None:
        self._folder, self._stride, self._room = folder, stride, room
        self._waiting = collections.deque(plan)
        # How many records of a block will be read: a window takes a part of one, the next the rest.
        self._unread = {_key(block): len(block) for block in self._waiting}
        self._coming: dict[_Key, tuple[_Request, slice]] = {}
        self._taken = 0
        with room.lock:
            self._begin_planned()

    def __del__(self) -> None:
        for request, _ in self._coming.values():
            request.data.cancel()
        self._take_room(-self._taken)

    def take(self, shard: ShardInfo, index: int) -> np.ndarray:
        """All bytes of a block, uint8[n]; waits for them.

        Raises:
          DataError: The shard is missing or has changed, or there is no way to it.
        """
        with self._room.lock:
            if (shard.name, index) not in self._coming:
                self._begin([Block(shard, index, *shard.block_bounds[index : index + 2])])
            request, part = self._coming[shard.name, index]
        return np.frombuffer(request.data.result(), np.uint8)[part]

    def release(self, block: Block) -> None:
        """Says that records have been read; a request of which all have been is dropped."""
        key = _key(block)
        with self._room.lock:
            self._unread[key] = self._unread.get(key, 0) - len(block)
            if self._unread[key] <= 0:
                del self._unread[key]
                if key in self._coming:
                    request, _ = self._coming.pop(key)
                    request.unread -= 1
                    if not request.unread:
                        self._take_room(-request.size)
                self._begin_planned()

    def _take_room(self, size: int) -> None:
        with self._room.lock:
            self._taken += size
            self._room.taken += size

    def _begin_planned(self) -> None:
        """Asks for as much of the plan as there is room for."""
        while self._waiting:
            group: list[Block] = []
            while self._waiting and self._has_room(group, self._waiting[0]):
                block = self._waiting.popleft()
                # One that was out of turn has come, or has even been read.
                if _key(block) in self._unread and _key(block) not in self._coming:
                    group.append(block)
            if not group:
                return
            self._begin(group)

    def _has_room(self, group: Sequence[Block], block: Block) -> bool:
        size = sum(map(self._size, group)) + self._size(block)
        if not self._room.has(size, own=self._taken):
            return False
        is_next = not group or _key(block) == (group[-1].shard.name, group[-1].index + 1)
        return is_next and (not group or size <= _REQUEST_BYTES)

    def _begin(self, group: Sequence[Block]) -> None:
        """Asks for whole blocks that follow each other in a shard."""
        shard, sizes = group[0].shard, [self._size(block) for block in group]
        start = shard.block_bounds[group[0].index] * self._stride
        stop = shard.block_bounds[group[-1].index + 1] * self._stride
        tag = self._folder.tags.get(shard.name, "")
        data = self._folder.store.begin_read(shard.name, start, stop, tag=tag)
        request = _Request(data, sum(sizes), len(group))
        for block, end in zip(group, itertools.accumulate(sizes), strict=True):
            self._coming[_key(block)] = request, slice(end - self._size(block), end)
        self._take_room(request.size)

    def _size(self, block: Block) -> int:
        """Bytes of the whole of a block of which some records are wanted."""
        start, stop = block.shard.block_bounds[block.index : block.index + 2]
        return (stop - start) * self._stride


def _key(block: Block) -> _Key:
    return block.shard.name, block.index
