"""A model as a graph of Keras' own layers and operations, which Keras alone can open."""

from collections.abc import Callable
from typing import Any

import keras

from quickdraw_tfrecords.base.errors import UsageError
from trainer import mirroring
from trainer.layers import spatial


def make_graph(model: keras.Model, side: int) -> keras.Model:
    """A model that takes pixels and gives probabilities.

    Args:
      model: float[batch, side, side, 1] in [0, 1] -> logits. Layers of this project are replaced
        by what computes the same.
      side: Height and width of a drawing in pixels.

    Returns:
      uint8[batch, side, side, 1] -> float32[batch, classes].

    Raises:
      UsageError: The model is no graph of layers, so that Keras alone could not build it.
    """
    image = keras.Input([side, side, 1], dtype="uint8", name="image")
    scaled = keras.layers.Rescaling(1 / 255, name="scale")(image)
    probabilities = keras.layers.Softmax(name="probabilities")(_logits(model, scaled))
    graph = keras.Model(image, probabilities, name=model.name)
    copy = keras.models.clone_model(
        graph, clone_function=_clone, call_function=_call, recursive=True
    )
    copy.set_weights(graph.get_weights())
    return copy


def _logits(model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    if isinstance(model, (mirroring.AverageWithMirrored, mirroring.AverageOf)):
        return model.call(images)  # written in Keras' operations, which become the graph's
    if not type(model).__module__.startswith("keras."):  # of a class of its own
        raise UsageError(
            f"--format=keras: {model.name} is no graph of layers, so Keras alone cannot build it; "
            "choose another format"
        )
    return model(images)


def _clone(layer: keras.Operation) -> keras.Operation:
    """A layer of this project as the layer of Keras that it derives from."""
    if type(layer) in _REPLACED:
        return layer
    bases: tuple[Any, ...] = type(layer).__mro__
    if bases[0].__module__.startswith("trainer."):
        bases = tuple(base for base in bases if base.__module__.startswith("keras."))
    clone: keras.Operation = bases[0].from_config(layer.get_config())
    return clone


def _call(layer: keras.Operation, *arguments: Any, **options: Any) -> Any:
    if type(layer) in _REPLACED:
        return _REPLACED[type(layer)](layer, *arguments)
    return layer(*arguments, **options)


def _space_to_depth(layer: spatial.SpaceToDepth, images: keras.KerasTensor) -> keras.KerasTensor:
    block = layer.block
    padding = [(0, -size % block) for size in images.shape[1:3]]
    images = keras.layers.ZeroPadding2D(padding)(images)
    _, height, width, channels = images.shape
    rows, columns = height // block, width // block
    blocks = keras.layers.Reshape([rows, block, columns, block * channels])(images)
    blocks = keras.layers.Permute([1, 3, 2, 4])(blocks)
    return keras.layers.Reshape([rows, columns, block * block * channels])(blocks)


def _grid_pooling(layer: spatial.GridPooling2D, images: keras.KerasTensor) -> keras.KerasTensor:
    rows, columns = (spatial.resizing_matrix(side, layer.cells) for side in images.shape[1:3])
    return keras.ops.einsum("yi,xj,nijc->nyxc", rows, columns, images)


# Layers that derive from none of Keras' that computes the same.
_REPLACED: dict[type, Callable[..., keras.KerasTensor]] = {
    spatial.SpaceToDepth: _space_to_depth,
    spatial.GridPooling2D: _grid_pooling,
}
