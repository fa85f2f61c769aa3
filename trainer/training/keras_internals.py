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
    apply_adam(
        variable,
        gradient,
        (adam._momentums[index], adam._velocities[index]),
        step=adam.iterations + 1,
        learning_rate=learning_rate,
        betas=(adam.beta_1, adam.beta_2),
        epsilon=adam.epsilon,
    )


def apply_adam(
    variable: tf.Variable,
    gradient: tf.Tensor,
    moments: tuple[keras.Variable, keras.Variable],
    *,
    step: tf.Tensor,
    learning_rate: tf.Tensor,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """A step of Adam (Kingma and Ba, 2014, arXiv:1412.6980), as Keras takes it, in one op.

    Args:
      variable: The weights.
      gradient: Of their shape.
      moments: The first and the second.
      step: int64[], its number, from 1.
      learning_rate: float[].
      betas: Of the two moments.
      epsilon: Added to the root of the second.
    """
    step = tf.cast(step, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=moments[0].value.handle,
        v=moments[1].value.handle,
        beta1_power=tf.pow(betas[0], step),
        beta2_power=tf.pow(betas[1], step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=betas[0],
        beta2=betas[1],
        epsilon=epsilon,
        grad=tf.cast(gradient, variable.dtype),
    )
