"""A small CNN that trains well on a laptop: under 300 k parameters and 6 MFLOP per drawing."""

import keras
from keras import layers

from trainer.layers.convolution import Conv2D
from trainer.layers.dropout import Dropout
from trainer.layers.normalization import BatchNormalization


def build(*, side: int, num_classes: int, dropout: float | None) -> keras.Model:
    """Four 3x3 convolutions with batch normalization, halving the side thrice.

    Args:
      side: Height and width of a drawing in pixels.
      num_classes: Number of logits.
      dropout: Rate before the last layer; 0.2 if None.

    Returns:
      float[batch, side, side, 1] -> float32 logits [batch, num_classes].
    """
    inputs = keras.Input([side, side, 1], name="image")
    x = inputs
    for index, (filters, stride) in enumerate(((16, 2), (32, 1), (64, 2), (96, 2)), start=1):
        x = Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"conv{index}")(x)
        x = BatchNormalization(momentum=0.9, name=f"norm{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(96, activation="relu", name="hidden")(x)
    x = Dropout(0.2 if dropout is None else dropout, name="dropout")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="compact_cnn")
