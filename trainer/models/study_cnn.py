"""The CNN of the 2019 study, reconstructed from its number of parameters.

The study gives 8,031,385 parameters for 28x28 drawings and 345 classes; its picture of the
layers is lost. Of the plain layouts that a search went through, this is by far the simplest
with exactly that many. The count cannot tell where dropout stood: it stands where it was
usual, after each pooling and before the last layer.
"""

import keras
from keras import layers

from trainer.layers.convolution import Conv2D
from trainer.layers.dense import Dense
from trainer.layers.dropout import Dropout
from trainer.layers.pooling import MaxPooling2D


def build(*, side: int, num_classes: int, dropout: float | None) -> keras.Model:
    """Two pairs of convolutions, each pooled, and a dense layer of 4096.

    Args:
      side: Height and width of a drawing in pixels.
      num_classes: Number of logits; 345 gives 8,031,385 parameters.
      dropout: One rate for all three places; 0.25, 0.25 and 0.5 if None.

    Returns:
      float[batch, side, side, 1] -> float32 logits [batch, num_classes].
    """
    after_pooling, before_last = (0.25, 0.5) if dropout is None else (dropout, dropout)
    inputs = keras.Input([side, side, 1], name="image")
    x = inputs
    for index, filters in ((1, (16, 32)), (2, (64, 64))):
        for filter_count, padding, part in zip(filters, ("same", "valid"), "ab", strict=True):
            name = f"conv{index}{part}"
            x = Conv2D(filter_count, 3, padding=padding, activation="relu", name=name)(x)
        x = MaxPooling2D(2, name=f"pool{index}")(x)
        x = Dropout(after_pooling, name=f"dropout{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4096, activation="relu", name="hidden")(x)
    x = Dropout(before_last, name="dropout3")(x)
    logits = Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="study_cnn")
