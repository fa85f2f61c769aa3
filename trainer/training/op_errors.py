"""What TensorFlow's errors say, in one line."""

import re

import tensorflow as tf

# What stands around the line that tells what happened.
_NOT_TELLING = ("Graph execution error:", "Detected at node", "File ", "[[", "(")
_AROUND = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:.*")  # the message of an operation by itself
_CHECKED_OPERATION = re.compile(r"node (?:while/)?(\S+)/CheckNumerics")


def describe(error: tf.errors.OpError) -> str:
    """The line of our own error that TensorFlow has wrapped, or the one that tells of its own."""
    message: str = error.message
    lines = [_AROUND.sub("", line).strip() for line in message.splitlines()]
    marker = "DataError: "
    ours = [line.partition(marker)[2] for line in lines if marker in line]
    if ours:
        return ours[0]
    if checked := _CHECKED_OPERATION.search(message):
        return f"--check_numerics: NaN or infinity came out of the operation {checked[1]}"
    telling = [line for line in lines if line and not line.startswith(_NOT_TELLING)]
    return telling[0] if telling else type(error).__name__
