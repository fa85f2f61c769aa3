"""What the trainer reaches for inside of Keras, all in one place.

Keras has no public way to these, and they may change with any release. So they are used with
the versions that the tests have passed with, and with no other.
"""

import functools

import keras
import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError

# The tests of steps, optimizers and evaluation pass with 3.13.2, 3.14.0 and 3.15.1; in 3.12.0
# Keras' Muon fails on TensorFlow.
REQUIREMENT = "keras>=3.13,<3.16"
_FROM, _BELOW = (3, 13), (3, 16)


@functools.cache
def require_checked_version(version: str = keras.__version__) -> None:
    """Refuses a version of Keras that nobody has tried this with.

    Without it, a release that renames one of these could change what is trained, silently.

    Raises:
      UsageError: Names the versions that will do.
    """
    major, minor, *_ = version.split(".")
    if not _FROM <= (int(major), int(minor)) < _BELOW:
        raise UsageError(
            f"Keras {version} has not been checked with this trainer, which uses parts of it that "
            f"may change: pip install '{REQUIREMENT}'"
        )


def take_gradients_as_reduced(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer apply gradients as they are, where Keras would sum them over replicas."""
    require_checked_version()
    optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def let_replicas_count(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes each replica count an optimizer's iterations for itself; all count the same.

    Keras spreads the first replica's count, and leaves the step for it, which XLA cannot.
    """
    require_checked_version()
    optimizer._iterations.value._aggregation = tf.VariableAggregation.NONE


def fuse_adam(adam: keras.optimizers.Adam) -> None:
    """Makes Adam, or AdamW, update a variable in one op that goes over it once.

    Keras takes fifteen, each of which writes a tensor: a twentieth of the study's step.
    """
    require_checked_version()
    adam.update_step = functools.partial(_fused_adam_step, adam)


def _fused_adam_step(
    adam: keras.optimizers.Adam,
    gradient: tf.Tensor,
    variable: tf.Variable,
    learning_rate: tf.Tensor,
) -> None:
    """What `Adam.update_step` does to a variable."""
    index = adam._get_variable_index(variable)
    step = tf.cast(adam.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=adam._momentums[index].value.handle,
        v=adam._velocities[index].value.handle,
        beta1_power=tf.pow(adam.beta_1, step),
        beta2_power=tf.pow(adam.beta_2, step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=adam.beta_1,
        beta2=adam.beta_2,
        epsilon=adam.epsilon,
        grad=tf.cast(gradient, variable.dtype),
    )
