"""The contenders of the input benchmark, by the name that --contenders takes."""

from tools.input_peers import (
    grain_peer,
    jax_peers,
    ours,
    reference,
    tensorflow_peers,
    torch_peers,
)
from tools.input_peers.contender import BATCH_SIZE, Contender, Split

__all__ = ["BATCH_SIZE", "CONTENDERS", "FILES", "LIMIT", "OURS", "Contender", "Split"]

LIMIT, FILES = "numpy", "files"

# Those of this project's readers.
OURS = {
    "resident": Contender(
        "quickdraw-tfrecords, resident", ours.open_resident, epoch=ours.RESIDENT_EPOCHS
    ),
    "streaming": Contender(
        "quickdraw-tfrecords, streaming", ours.open_streaming, epoch=ours.STREAMING_EPOCHS
    ),
    # Their order is that of the two before.
    "resident_loop": Contender(
        "quickdraw-tfrecords, resident, compiled loop", ours.open_resident_loop, shuffles=False
    ),
    "streaming_loop": Contender(
        "quickdraw-tfrecords, streaming, compiled loop", ours.open_streaming_loop, shuffles=False
    ),
    "batches": Contender(
        "quickdraw-tfrecords, NumPy, resident", ours.open_batches, epoch=ours.BATCHES_EPOCHS
    ),
    "batches_streaming": Contender(
        "quickdraw-tfrecords, NumPy, streaming",
        ours.open_batches_streaming,
        epoch=ours.BATCHES_STREAMING_EPOCHS,
    ),
    "for_torch": Contender(
        "quickdraw-tfrecords for PyTorch, resident", ours.open_torch, requires=("torch",)
    ),
    "for_jax": Contender("quickdraw-tfrecords for JAX, resident", ours.open_jax, requires=("jax",)),
}

CONTENDERS = {
    LIMIT: Contender("numpy gather from RAM (limit)", reference.open_numpy),
    FILES: Contender("the files, front to back", reference.open_files, shuffles=False),
    **OURS,
    "tfdata_batched": Contender("tf.data, batched parse", tensorflow_peers.open_batched),
    "tfdata": Contender("tf.data, per element", tensorflow_peers.open_per_element),
    "tfds": Contender("TFDS", tensorflow_peers.open_tfds),
    "torch": Contender("PyTorch, numpy memmap", torch_peers.open_memory_map, requires=("torch",)),
    "torch_workers": Contender(
        "PyTorch, numpy memmap, 2 workers",
        torch_peers.open_memory_map_workers,
        requires=("torch",),
    ),
    "jax": Contender("JAX, numpy memmap", jax_peers.open_memory_map, requires=("jax",)),
    "webdataset": Contender(
        "WebDataset",
        torch_peers.open_webdataset,
        torch_peers.write_webdataset,
        requires=("torch", "webdataset"),
    ),
    "mosaic": Contender(
        "MosaicML Streaming",
        torch_peers.open_mosaic,
        torch_peers.write_mosaic,
        requires=("torch", "streaming"),
    ),
    "grain": Contender(
        "Grain, ArrayRecord",
        grain_peer.open_grain,
        grain_peer.write,
        requires=("grain", "array_record"),
    ),
}
