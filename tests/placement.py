"""Where the tensors of a traced function would be on a GPU, by TensorFlow's registry of kernels.

TensorFlow for Linux is built for CUDA, so its registry says on any machine which kernels a GPU
would run, and which of their arguments they want in the host's memory. An op without such a
kernel runs on the CPU. Wherever a tensor is made in one memory and used in the other, it is
copied, and a copy back to the host waits for all that the GPU has to do before.
"""

import dataclasses
import functools
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.framework import kernel_def_pb2, op_def_pb2
from tensorflow.python.framework import function_def_to_graph, kernels

_CALLS = {
    "PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile",
}  # fmt: skip
_ARGUMENTS = {"Placeholder", "_Arg"}


@dataclasses.dataclass(frozen=True)
class Copy:
    """A tensor that changes memory.

    Attributes:
      made: Op that makes it.
      used: Op that uses it.
      size_bytes: How large it is; None if that is not known before it is made.
      to_host: Whether it goes from the GPU to the host.
    """

    made: str
    used: str
    size_bytes: int | None
    to_host: bool


def has_gpu_kernels() -> bool:
    """Whether this TensorFlow is built for a GPU."""
    return any(kernel.device_type == "GPU" for kernel in _kernels("MatMul"))


def graphs(function: tf.types.experimental.ConcreteFunction) -> Iterator[tf.Graph]:
    """The graph of a function, and those of all that it calls."""
    yield function.graph
    library = function.graph.as_graph_def().library
    for definition in library.function:
        yield function_def_to_graph.function_def_to_graph(definition)


def copies(graph: tf.Graph) -> Iterator[Copy]:
    """The copies in a graph, but for those of its arguments."""
    for operation in graph.get_operations():
        if operation.type in _CALLS:
            continue
        inputs, _ = on_host(operation)
        for tensor, wanted_on_host in zip(operation.inputs, inputs, strict=True):
            if tensor.dtype == tf.resource or tensor.op.type in _CALLS | _ARGUMENTS:
                continue
            made_on_host = on_host(tensor.op)[1][tensor.value_index]
            if made_on_host != wanted_on_host and tensor.op.type != "Const":
                names = (f"{op.type} {op.name}" for op in (tensor.op, operation))
                yield Copy(*names, size_bytes(tensor), to_host=wanted_on_host)


def host_tensors(graph: tf.Graph) -> Iterator[tuple[str, int | None]]:
    """The tensors made or used in the host's memory, by their op, with their sizes in bytes."""
    for operation in graph.get_operations():
        if operation.type in _CALLS | _ARGUMENTS | {"Const", "NoOp"}:
            continue
        for tensors, places in zip(
            (operation.inputs, operation.outputs), on_host(operation), strict=True
        ):
            for tensor, is_on_host in zip(tensors, places, strict=True):
                if is_on_host and tensor.dtype != tf.resource:
                    yield f"{operation.type} {operation.name}", size_bytes(tensor)


def on_host(operation: tf.Operation) -> tuple[list[bool], list[bool]]:
    """For each input and each output of an op, whether it is in the host's memory."""
    definition = operation.op_def
    kernel = None if "CPU" in operation.device else _kernel(operation)
    arguments = (definition.input_arg, definition.output_arg)
    if kernel is None:
        return [True] * len(operation.inputs), [True] * len(operation.outputs)
    inputs, outputs = (
        [
            argument.name in kernel.host_memory_arg
            for argument in part
            for _ in range(_length(operation, argument))
        ]
        for part in arguments
    )
    return inputs, outputs


def size_bytes(tensor: tf.Tensor) -> int | None:
    """The size of a tensor; None if a dimension is not known."""
    elements = tensor.shape.num_elements()
    return None if elements is None else elements * tensor.dtype.size


def _length(operation: tf.Operation, argument: op_def_pb2.OpDef.ArgDef) -> int:
    """How many tensors an argument of an op is."""
    if argument.number_attr:
        return int(operation.get_attr(argument.number_attr))
    return len(operation.get_attr(argument.type_list_attr)) if argument.type_list_attr else 1


def _kernel(operation: tf.Operation) -> kernel_def_pb2.KernelDef | None:
    """What would run an op on a GPU; None if nothing would."""
    fitting = [
        kernel
        for kernel in _kernels(operation.type)
        if kernel.device_type in ("GPU", "DEFAULT")
        and not kernel.label
        and _fits(kernel, operation)
    ]
    return max(
        fitting, key=lambda kernel: (kernel.device_type == "GPU", kernel.priority), default=None
    )


def _fits(kernel: kernel_def_pb2.KernelDef, operation: tf.Operation) -> bool:
    attributes = operation.node_def.attr
    for constraint in kernel.constraint:
        value = attributes[constraint.name]
        types = list(value.list.type) or [value.type]
        if not set(types) <= set(constraint.allowed_values.list.type):
            return False
    return True


@functools.cache
def _kernels(name: str) -> list[kernel_def_pb2.KernelDef]:
    return list(kernels.get_registered_kernels_for_op(name).kernel)
