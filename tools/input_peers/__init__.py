"""The contenders of the input benchmark, by the name that --contenders takes."""

from tools.input_peers import grain_peer, reference, tensorflow_peers, torch_peers
from tools.input_peers.contender import BATCH_SIZE, Contender, Split

__all__ = ["BATCH_SIZE", "CONTENDERS", "LIMIT", "Contender", "Split"]

LIMIT = "numpy"

CONTENDERS = {
    "numpy": Contender("numpy gather from RAM (limit)", reference.open_numpy),
    "resident": Contender("quickdraw-tfrecords, resident", reference.open_resident),
    "streaming": Contender("quickdraw-tfrecords, streaming", reference.open_streaming),
    "tfdata_batched": Contender("tf.data, batched parse", tensorflow_peers.open_batched),
    "tfdata": Contender("tf.data, per element", tensorflow_peers.open_per_element),
    "tfds": Contender("TFDS", tensorflow_peers.open_tfds),
    "torch": Contender("PyTorch, numpy memmap", torch_peers.open_memory_map, requires=("torch",)),
    "torch_workers": Contender(
        "PyTorch, numpy memmap, 2 workers",
        torch_peers.open_memory_map_workers,
        requires=("torch",),
    ),
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
