"""What the project reaches for inside of TensorFlow, all in one place.

TensorFlow has no public way to these, and they may change with any minor release. The
requirement of this package on TensorFlow names the one that the tests have passed with.
"""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

__all__ = [
    "HOST",
    "convert_variables_to_constants_v2",
    "host_variable",
    "is_traced_for_xla",
    "optimization_barrier",
]

HOST = "/device:CPU:0"


def host_variable(value: float, dtype: tf.DType, *, name: str) -> ResourceVariable:
    """A variable in the host's memory, also inside the scope of a strategy.

    What `tf.Variable` makes goes to the device of the strategy, whatever `tf.device` says.
    """
    with tf.device(HOST):
        return ResourceVariable(value, dtype=dtype, trainable=False, name=name)


def is_traced_for_xla() -> bool:
    """Whether XLA will compile the function that is being traced."""
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def optimization_barrier(*tensors: tf.Tensor) -> list[tf.Tensor]:
    """The same tensors; XLA computes all of them before, and apart from, what uses any."""
    return list(gen_xla_ops.xla_optimization_barrier(tensors))
