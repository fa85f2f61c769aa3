"""How long a compiled step takes at the least, by what its operations move and compute.

An operation of a GPU either waits for memory or for arithmetic, whichever takes longer (S.
Williams et al., Roofline, 2009), and none is over before it has been started. No GPU reaches
its data sheet, so each rate is multiplied by the share of it that an H100 was seen to reach.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

_BYTES = {
    "pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4,
    "f64": 8, "s64": 8, "u64": 8,
}  # fmt: skip
_SHAPE = re.compile(rf"\b({'|'.join(_BYTES)})\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z\-]+)\((.*?)\)(?:,|$)")
_NAME = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_LABELS = re.compile(r"dim_labels=\w+->(\w+)")
_COMPUTATION = re.compile(r"^%([\w.\-]+) \(.*?^}", re.MULTILINE | re.DOTALL)
_CALLED = re.compile(r"calls=%([\w.\-]+)")
_REDUCED = re.compile(r"dimensions=\{([\d,]+)\}")
_LAUNCHED = {"fusion", "custom-call", "copy", "sort", "scatter", "reduce", "convolution", "dot"}

# Fitted to what an H100 was measured at; see docs/gpu.md. What share of the data sheet's rates
# products and convolutions reach, below how many channels a convolution leaves some of them
# idle, and a sum of columns some of the memory's rate, and what it takes to start an operation.
MEMORY_SHARE = 0.85
PRODUCT_SHARE = 0.35
CONVOLUTION_SHARE = 0.14
CONVOLUTION_TF32_SHARE = 0.18
PLAIN_SHARE = 0.35  # of either, where float32 is multiplied without tensor cores
FULL_CHANNELS = 32
FULL_COLUMNS = 64
LAUNCH_SECS = 2.5e-6


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU, by its data sheet.

    Attributes:
      name: As NVIDIA calls it.
      capability: Compute capability.
      cores: Streaming multiprocessors.
      bandwidth: Of its memory, bytes/s.
      rates: FLOP/s of products by the dtype of their inputs, without sparsity; float32 in
        TF32 where the card has it.
      memory_bytes: Its memory.
      shared_bytes: Shared memory of a multiprocessor.
      cache_bytes: Its second-level cache.
      threads: Threads of a multiprocessor.
      lanes: Floating-point units of a multiprocessor.
      clock_ghz: Its highest clock.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    bandwidth: float
    rates: dict[str, float]
    memory_bytes: int
    shared_bytes: int
    cache_bytes: int
    threads: int
    lanes: int
    clock_ghz: float

    @property
    def precision(self) -> str:
        """What --precision=auto chooses on it."""
        return "mixed_bfloat16" if self.capability >= (8, 0) else "mixed_float16"

    def config(self) -> str:
        """What XLA compiles for: a GpuTargetConfigProto as text."""
        block_bytes = self.shared_bytes - (1024 if self.capability >= (8, 0) else 0)
        device = (
            "threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 "
            f"shared_memory_per_core: {self.shared_bytes} threads_per_core_limit: {self.threads} "
            f"core_count: {self.cores} fpus_per_core: {self.lanes} "
            "block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 "
            f"memory_bandwidth: {self.bandwidth:.0f} l2_cache_size: {self.cache_bytes} "
            f"clock_rate_ghz: {self.clock_ghz} device_memory_size: {self.memory_bytes} "
            f"shared_memory_per_block_optin: {block_bytes} "
            "registers_per_core_limit: 65536 registers_per_block_limit: 65536 "
            "cuda_compute_capability { major: %d minor: %d }" % self.capability
        )
        return (
            f"gpu_device_info {{ {device} }} runtime_version {{ major: 13 }} "
            'platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } '
            f'device_description_str: "{self.name}"'
        )


GB = 1_000_000_000
CARDS = {
    "h100": Card(
        name="NVIDIA H100 80GB HBM3", capability=(9, 0), cores=132, bandwidth=3352e9,
        rates={"bf16": 989e12, "f16": 989e12, "f32": 494e12}, memory_bytes=85 * GB,
        shared_bytes=233_472, cache_bytes=52_428_800, threads=2048, lanes=128, clock_ghz=1.98,
    ),
    "a100": Card(
        name="NVIDIA A100-SXM4-80GB", capability=(8, 0), cores=108, bandwidth=2039e9,
        rates={"bf16": 312e12, "f16": 312e12, "f32": 156e12}, memory_bytes=85 * GB,
        shared_bytes=167_936, cache_bytes=41_943_040, threads=2048, lanes=64, clock_ghz=1.41,
    ),
    "l4": Card(
        name="NVIDIA L4", capability=(8, 9), cores=58, bandwidth=300e9,
        rates={"bf16": 121e12, "f16": 121e12, "f32": 60e12}, memory_bytes=24 * GB,
        shared_bytes=102_400, cache_bytes=50_331_648, threads=1536, lanes=128, clock_ghz=2.04,
    ),
    "t4": Card(
        name="Tesla T4", capability=(7, 5), cores=40, bandwidth=320e9,
        rates={"f16": 65e12, "f32": 8.1e12}, memory_bytes=15 * GB,
        shared_bytes=65_536, cache_bytes=4_194_304, threads=1024, lanes=64, clock_ghz=1.59,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a GPU is told to do at once.

    Attributes:
      name: What it is called in the model, or in the program.
      kind: "convolution", "product", or what XLA calls it.
      dtype: Of the inputs of a convolution or a product, else "".
      moved_bytes: What it reads and writes.
      flops: Floating-point operations of a convolution or a product, else 0.
      width: Numbers side by side that it goes over at once: the channels that a convolution
        multiplies, the columns of a sum over rows; 0 if that is no matter.
    """

    name: str
    kind: str
    dtype: str
    moved_bytes: int
    flops: float
    width: int = 0


def operations(program: str) -> list[Operation]:
    """What a compiled program launches, in its order.

    Args:
      program: HLO text, after all passes.
    """
    widths = {match[1]: _columns(match[0]) for match in _COMPUTATION.finditer(program)}
    return list(_operations(program[program.index("\nENTRY") :], widths))


def _columns(computation: str) -> int:
    """Of its sum over rows with the fewest columns; 0 if there is none."""
    types, found = {}, []
    for line in computation.splitlines():
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        name, types[name], kind, operands = match[1], match[2], match[3], match[4]
        if kind == "reduce":
            shape = _shape(types[operands.split(",")[0].strip().lstrip("%")])
            reduced = _REDUCED.search(line)[1]  # type: ignore[index]  # every sum has them
            last = max(map(int, reduced.split(",")))
            found.append(math.prod(shape[last + 1 :]) if last + 1 < len(shape) else 0)
    return min(filter(None, found), default=0)


def _operations(entry: str, widths: dict[str, int]) -> Iterator[Operation]:
    types: dict[str, str] = {}
    for line in entry.splitlines():
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        name, result, kind, operands = match.groups()
        target = _TARGET.search(line)
        if target:  # the other results are room to work in
            result = _SHAPE.search(result)[0]  # type: ignore[index]  # there is one
        types[name] = result
        if kind not in _LAUNCHED:
            continue
        inputs = [types.get(part.strip().lstrip("%"), "") for part in _split(operands)]
        flops, role, width = _flops(line, target[1] if target else "", result, inputs)
        called = _CALLED.search(line)
        label = _NAME.search(line)
        yield Operation(
            name=_shorten(label[1]) if label else name,
            kind=role or kind,
            dtype=_SHAPE.search(inputs[0])[1] if role else "",  # type: ignore[index]
            moved_bytes=sum(map(_size_bytes, [result, *inputs])),
            flops=flops,
            width=widths.get(called[1], 0) if called else width,
        )


def _flops(line: str, target: str, result: str, inputs: Sequence[str]) -> tuple[float, str, int]:
    """Floating-point operations of a line; "convolution", "product" or ""; the width."""
    if "cublas" in target:
        # Of [m, k] by [k, n] to [m, n], the product of all sizes is the square of m k n.
        elements, batch = map(
            math.prod, (map(_elements, [*inputs[:2], result]), _shape(result)[:-2])
        )
        return 2 * math.sqrt(elements / batch), "product", 0
    if "cudnn$conv" not in target:
        return 0.0, "", 0
    if "BackwardFilter" in target:
        images, outputs, kernel = inputs[0], inputs[1], result
    elif "BackwardInput" in target:
        images, outputs, kernel = result, inputs[0], inputs[1]
    else:
        images, outputs, kernel = inputs[0], result, inputs[1]
    feature = _LABELS.search(line)[1].index("f")  # type: ignore[index]
    channels = [_shape(each)[feature] for each in (images, outputs)]
    flops = 2 * _elements(outputs) * _elements(kernel) / channels[1]
    return flops, "convolution", channels[0]


def secs(operation: Operation, card: Card) -> float:
    """How long an operation takes on a card, by the forecast."""
    return max(_memory_secs(operation, card), _arithmetic_secs(operation, card)) + LAUNCH_SECS


def _memory_secs(operation: Operation, card: Card) -> float:
    is_narrow = operation.width and not operation.flops
    filled = min(1.0, operation.width / FULL_COLUMNS) if is_narrow else 1.0
    return operation.moved_bytes / (card.bandwidth * MEMORY_SHARE * filled)


def _arithmetic_secs(operation: Operation, card: Card) -> float:
    if not operation.flops:
        return 0.0
    return operation.flops / (card.rates[operation.dtype] * _share(operation, card))


def _share(operation: Operation, card: Card) -> float:
    """What share of the data sheet's rate an operation reaches."""
    if operation.dtype == "f32" and card.capability < (8, 0):  # before TF32
        return PLAIN_SHARE
    if operation.kind != "convolution":
        return PRODUCT_SHARE
    share = CONVOLUTION_TF32_SHARE if operation.dtype == "f32" else CONVOLUTION_SHARE
    return share * min(1.0, operation.width / FULL_CHANNELS)


def bound(operations: Sequence[Operation], card: Card) -> str:
    """What takes the most of the time: "memory", "arithmetic" or "launches"."""
    totals = {"memory": 0.0, "arithmetic": 0.0, "launches": LAUNCH_SECS * len(operations)}
    for operation in operations:
        memory, arithmetic = _memory_secs(operation, card), _arithmetic_secs(operation, card)
        totals["arithmetic" if arithmetic > memory else "memory"] += max(memory, arithmetic)
    return max(totals, key=lambda name: totals[name])


def _split(operands: str) -> list[str]:
    return re.sub(r"/\*.*?\*/", "", operands).split(",")


def _shorten(name: str) -> str:
    """The end of a name; what stands before is the same for all."""
    return "/".join(name.split("/")[-3:])


def _shape(text: str) -> list[int]:
    return [int(size) for size in _SHAPE.search(text)[2].split(",")]  # type: ignore[index]


def _elements(text: str) -> int:
    return math.prod(_shape(text))


def _size_bytes(text: str) -> int:
    """Of all arrays of a type."""
    return sum(
        _BYTES[dtype] * math.prod(int(size) for size in sizes.split(",") if size)
        for dtype, sizes in _SHAPE.findall(text)
    )
