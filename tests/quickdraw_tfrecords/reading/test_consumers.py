"""Who reads batches: PyTorch, JAX, Keras on each of its backends, scikit-learn.

PyTorch and JAX are no dependencies; what needs them is skipped where they are not installed.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import quickdraw_tfrecords as qt


def require(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"not installed: {name}")


def run(program: str, data_dir: Path, **environment: str) -> str:
    """Runs a program in a process of its own, and returns what it printed."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    command = [sys.executable, "-c", program, str(data_dir)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


FIT = """
import sys
import keras, numpy as np
import quickdraw_tfrecords as qt
model = keras.Sequential([
    keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(5, "softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(qt.load(sys.argv[1], "train", 100, shuffle=True), epochs=5, verbose=2)
found = model.evaluate(qt.load(sys.argv[1], "test", 64), verbose=0)
images, labels = qt.arrays(sys.argv[1], "test")
assert np.isclose(found[1], (model.predict(images, verbose=0).argmax(1) == labels).mean())
assert history.history["accuracy"][-1] > history.history["accuracy"][0]
print(keras.backend.backend(), len(history.history["loss"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_fits_on_each_backend(data_dir, backend):
    """The bar of each epoch ends at 8/8: Keras knows how many batches there are."""
    require(backend)
    out = run(FIT, data_dir, KERAS_BACKEND=backend)
    assert out.splitlines()[-1] == f"{backend} 5"
    assert out.count("8/8") == 5


def test_each_epoch_of_a_fit_has_an_order_of_its_own(data_dir):
    import keras
    import tensorflow as tf

    class Labels(keras.Model):
        """Remembers the labels it was shown."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []
            self.weight = self.add_weight(shape=())

        def train_step(self, data: tuple) -> dict:
            self.seen += data[1].numpy().tolist()
            return {"loss": tf.constant(0.0)}

    model = Labels()
    model.compile(optimizer="sgd", run_eagerly=True)
    model.fit(qt.load(data_dir, "train", 100, shuffle=True), epochs=5, verbose=0)
    epochs = np.reshape(model.seen, (5, 720))
    assert {tuple(np.bincount(epoch)) for epoch in epochs} == {(144,) * 5}
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_scikit_learn_fits_the_whole_split(data_dir):
    from sklearn.linear_model import LogisticRegression

    (images, labels), (tests, expected) = (qt.arrays(data_dir, s) for s in ("train", "test"))
    model = LogisticRegression(max_iter=50).fit(images.reshape(len(images), -1) / 255, labels)
    assert model.score(tests.reshape(len(tests), -1) / 255, expected) > 0.5


TORCH = """
import sys
import numpy as np, torch
import quickdraw_tfrecords as qt
from torch.utils.data import DataLoader
from quickdraw_tfrecords.reading.for_torch import TorchBatches
data_dir = sys.argv[1]

def drawings(batches):
    return [(i.numpy().tobytes(), int(l)) for b in batches for i, l in zip(*b)]

if __name__ == "__main__":
    whole = sorted(drawings([tuple(map(torch.from_numpy, qt.arrays(data_dir, "train")))]))
    for num_workers, persistent in ((0, False), (2, False), (2, True)):
        dataset = TorchBatches(data_dir, "train", 50, shuffle=True, cache="none", window_mib=0.1)
        loader = DataLoader(
            dataset, batch_size=None, num_workers=num_workers, persistent_workers=persistent
        )
        epochs = [drawings(loader) for _ in range(3)]
        assert all(sorted(epoch) == whole for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
        dataset.set_epoch(1)
        assert drawings(loader) == epochs[1]
        if not num_workers:
            assert len(loader) == 15
            images, labels = next(iter(loader))
            assert (images.dtype, labels.dtype) == (torch.uint8, torch.int32)
            images[:] = 0
            expected = qt.batches(data_dir, "train", 50, shuffle=True, epoch=1, cache="none",
                                  window_mib=0.1)
            assert drawings(map(lambda b: tuple(map(torch.from_numpy, b)), expected)) == epochs[1]
    print("done", "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_pytorch_reads_with_and_without_worker_processes(data_dir):
    require("torch")
    assert run(TORCH, data_dir) == "done False\n"


def test_ranks_of_pytorch_share_the_epoch(data_dir, monkeypatch):
    require("torch")
    from torch import distributed

    from quickdraw_tfrecords.reading.for_torch import TorchBatches

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    found: list[tuple[bytes, int]] = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        batches = TorchBatches(data_dir, "train", 64, shuffle=True)
        assert len(batches) == len(list(batches)) == 4
        batches.set_epoch(0)
        found += [(i.numpy().tobytes(), int(x)) for b in batches for i, x in zip(*b, strict=True)]
    images, labels = qt.arrays(data_dir, "train")
    assert sorted(found) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


JAX = """
import sys
import jax, numpy as np
import quickdraw_tfrecords as qt
from quickdraw_tfrecords.reading.for_jax import prefetch_to_device
for cache in ("memory", "none"):
    options = dict(split="train", batch_size=50, shuffle=True, seed=2, cache=cache)
    for size in (1, 2, 99):
        found = list(prefetch_to_device(qt.batches(sys.argv[1], **options), size=size))
        expected = list(qt.batches(sys.argv[1], **options))
        assert len(found) == len(expected) == 15
        for batch, other in zip(found, expected):
            assert all(isinstance(column, jax.Array) for column in batch)
            for column, values in zip(batch, other):
                assert column.dtype == values.dtype
                np.testing.assert_array_equal(np.asarray(column), values)
print("done", "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_jax_gets_batches_on_its_device(data_dir):
    require("jax")
    assert run(JAX, data_dir) == "done False\n"
