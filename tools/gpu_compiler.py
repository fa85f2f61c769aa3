"""Compiles a step for a GPU that this machine need not have; run by the Python that has JAX.

    python tools/gpu_compiler.py DIRECTORY CARD_CONFIG [COMPILER_OPTIONS]

It reads `step.mlir` and `step.json` of `tools.gpu_program` in the directory, and writes the
compiled program, `step.hlo`, and `compiled.json`. It stands alone: no part of this project, and
no TensorFlow, has to be installed beside JAX. The parts of JAX that begin with an underscore are
why the project asks for the versions of JAX that it has been tried with.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import hlo
from jax.experimental import topologies

# TensorFlow copies its results, for which StableHLO has no operation.
_COPY = re.compile(r"^( *)(%\w+) = mhlo\.copy (%\w+) .*\n", re.MULTILINE)
_STABLEHLO_VERSION = "1.9.0"

Arrays = tuple[Any, ...]


def main() -> None:
    """Compiles as the arguments say."""
    directory, card, *options = sys.argv[1:]
    jax.config.update("jax_enable_x64", True)
    compiled = compile_for(Path(directory), card, json.loads(options[0]) if options else {})
    memory = compiled.memory_analysis()
    (Path(directory) / "step.hlo").write_text(compiled.as_text())
    facts = {
        "jax": jax.__version__,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
    }
    (Path(directory) / "compiled.json").write_text(json.dumps(facts))


def compile_for(directory: Path, card: str, options: dict[str, Any]) -> jax.stages.Compiled:
    """Compiles ahead of time.

    Args:
      directory: Where the program is.
      card: XLA's description of the GPU, a GpuTargetConfigProto as text.
      options: Of XLA, by name.
    """
    facts = json.loads((directory / "step.json").read_text())
    step = load((directory / "step.mlir").read_text(), facts, platform="cuda")
    topology = topologies.get_topology_desc("gpu", "cuda", target_config=card, topology="1x1x1")
    sharding = jax.sharding.SingleDeviceSharding(topology.devices[0])
    images, labels, *state = (
        jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape, dtype in facts["arguments"]
    )
    traced = jax.jit(step, donate_argnums=0).trace(tuple(state), images, labels)
    return traced.lower(lowering_platforms=("cuda",)).compile(compiler_options=options)


def load(text: str, facts: dict[str, Any], *, platform: str) -> Callable[..., Arrays]:
    """A program as a function of (state, images, labels) that gives the next state."""
    outputs, arguments = facts["outputs"], facts["arguments"]
    everything = range(len(arguments))
    exported = export.Exported(
        fun_name="step",
        in_tree=jax.tree.structure((tuple(everything), {})),
        in_avals=_avals(arguments, everything),
        out_tree=jax.tree.structure(tuple(range(len(outputs)))),
        out_avals=_avals(arguments, outputs),
        _in_named_shardings=(None,) * len(arguments),
        _out_named_shardings=(None,) * len(outputs),
        in_shardings_hlo=(None,) * len(arguments),
        out_shardings_hlo=(None,) * len(outputs),
        nr_devices=1,
        platforms=(platform,),
        ordered_effects=(),
        unordered_effects=(),
        disabled_safety_checks=(),
        mlir_module_serialized=_serialize(text),
        calling_convention_version=export.maximum_supported_calling_convention_version,
        module_kept_var_idx=tuple(everything),
        uses_global_constants=False,
        _get_vjp=None,
    )

    def step(state: Arrays, images: jax.Array, labels: jax.Array) -> Arrays:
        changed = list(state)
        results = exported.call(images, labels, *state)
        for index, value in zip(outputs, results, strict=True):
            changed[index - 2] = value
        return tuple(changed)

    return step


def _avals(arguments: list, indices: Any) -> tuple[Any, ...]:
    return tuple(jax.core.ShapedArray(*arguments[index]) for index in indices)


def _serialize(text: str) -> bytes:
    """TensorFlow's text as a portable artifact of StableHLO alone."""
    with mlir.make_ir_context():
        module = ir.Module.parse(_without_copies(text))
        for attribute in list(module.operation.attributes):
            name = getattr(attribute, "name", attribute)
            if str(name).startswith("mhlo."):
                del module.operation.attributes[name]
        return hlo.serialize_portable_artifact(module, _STABLEHLO_VERSION)


def _without_copies(text: str) -> str:
    """The same program, in which what was copied is used itself.

    A name is good up to the end of its region, which is where less is indented.
    """
    while match := _COPY.search(text):
        outside = re.compile(rf"^ {{0,{len(match[1]) - 1}}}\S", re.MULTILINE)
        left = outside.search(text, match.end())
        end = left.start() if left else len(text)
        users = re.sub(match[2] + r"\b", match[3], text[match.end() : end])
        text = text[: match.start()] + users + text[end:]
    return text


if __name__ == "__main__":
    main()
