"""Reads the pickles that NumPy makes of arrays of arrays, without Python's unpickler.

A pickle is a program for a stack machine, and Python's machine may call any function there is.
Even if it finds only what NumPy's pickles refer to, a pickle can make it build an array on memory
of its author's choice, and a few bytes can make it allocate gigabytes.

The machine below knows only the instructions that NumPy's pickles consist of, and it calls
nothing. Where a pickle says "call numpy.dtype with 'i2'", the result is `Call("dtype", ("i2",))`.
`object_arrays` then builds the arrays from what these say.

https://github.com/python/cpython/blob/main/Lib/pickletools.py describes the instructions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from quickdraw_tfrecords.base.errors import DataError

# What NumPy's pickles call, and what we call that.
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}

# They bound the memory to some 800 MB besides the pickle. Google's largest class has 340,029
# drawings, each of which is 26 instructions, and one or two values to remember.
_MAX_STEPS = 12_000_000
_MAX_MEMO = 1_000_000

_SHORT_BYTES = 255  # longer ones are neither copied nor remembered


@dataclasses.dataclass(frozen=True)
class Name:
    """A reference to a function or type.

    Attributes:
      value: One of `reconstruct`, `frombuffer`, `ndarray`, `dtype`, `encode`.
    """

    value: str


@dataclasses.dataclass(eq=False, slots=True)
class Call:
    """A call that the pickle asked for and that was not made.

    Attributes:
      name: As in `Name`.
      args: The arguments.
      state: What the pickle then asked to pass to the result's `__setstate__`; None if nothing.
    """

    name: str
    args: tuple[Any, ...]
    state: Any = None


def parse(data: bytes, start: int) -> Any:
    """Runs the instructions of a pickle, of any protocol.

    Args:
      data: Holds the pickle.
      start: Where in it the pickle begins.

    Returns:
      Numbers, text, bytes (as a view of `data` if they are long), None, `Name`s, `Call`s, and
      tuples and lists of such.

    Raises:
      DataError: The pickle is damaged, or is not of arrays.
    """
    machine = _Machine(data, start)
    try:
        return machine.run()
    except (IndexError, KeyError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"is damaged at byte {machine.position}: {reason}") from None


class _Machine:
    """The stack machine. Its instructions take operands from the stack and leave results there.

    Attributes:
      position: Of the next byte to be read.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self.position = position
        self._data, self._view = data, memoryview(data)
        self._stack: list[Any] = []
        self._marks: list[int] = []  # positions on the stack where lists and tuples begin
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Runs to the end and returns what is on top of the stack then."""
        data, stack, memo = self._data, self._stack, self._memo
        position, memoized = self.position, 0
        for _ in range(_MAX_STEPS):
            code = data[position]
            position += 1
            # These three are two thirds of a pickle, and calls would double the time they take.
            if code == _MEMOIZE:
                self.put(memoized)
                memoized += 1
            elif code == _ONE_BYTE:
                stack.append(data[position])
                position += 1
            elif code == _GET:
                stack.append(memo[data[position]])
                position += 1
            elif code == _STOP:
                return stack.pop()
            elif instruction := _INSTRUCTIONS.get(code):
                self.position = position
                instruction(self)
                position = self.position
            else:
                raise ValueError(f"no pickle of arrays has the instruction {bytes([code])!r}")
        raise ValueError(f"it has more than {_MAX_STEPS:,} instructions")

    def take(self, count: int) -> bytes | memoryview:
        """The next bytes."""
        start, self.position = self.position, self.position + count
        if self.position > len(self._data):
            raise ValueError("it ends too soon")
        return (self._data if count <= _SHORT_BYTES else self._view)[start : self.position]

    def take_number(self, width: int, *, signed: bool = False) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(width), "little", signed=signed)

    def take_sized(self, width: int) -> bytes | memoryview:
        """The next bytes, after a number that says how many they are."""
        return self.take(self.take_number(width))

    def take_line(self) -> bytes:
        """The next bytes up to a line's end."""
        start, end = self.position, self._data.index(b"\n", self.position)
        self.position = end + 1
        return self._data[start:end]

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Takes the topmost value from the stack."""
        return self._stack.pop()

    def mark(self) -> None:
        """Marks where the items of a list or tuple will be."""
        self._marks.append(len(self._stack))

    def pop_marked(self) -> list[Any]:
        """Takes all items above the last mark."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def push_tuple(self, size: int) -> None:
        """Puts the topmost values into a tuple."""
        items = tuple(self._stack[-size:])
        del self._stack[-size:]
        self._stack.append(items)

    def extend(self, items: list[Any]) -> None:
        """Appends to the list on top of the stack."""
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("it appends to something that is not a list")
        target += items

    def push_name(self, module: str, name: str) -> None:
        """Puts a reference on the stack."""
        public = module.replace("numpy._core.", "numpy.core.")  # its name since NumPy 2
        if (public, name) not in _NAMES:
            raise DataError(
                f"refers to {module}.{name}: only arrays of numbers are read, nothing is run"
            )
        self._stack.append(Name(_NAMES[public, name]))

    def push_named(self) -> None:
        """Puts a reference on the stack, whose module and name are there."""
        name, module = self._stack.pop(), self._stack.pop()
        self.push_name(str(module), str(name))

    def call(self) -> None:
        """Notes a call."""
        args, function = self._stack.pop(), self._stack.pop()
        if type(function) is not Name or type(args) is not tuple:
            raise ValueError("it calls something that is not a function of NumPy's")
        self._stack.append(Call(function.value, args))

    def set_state(self) -> None:
        """Notes the state for the result of a call."""
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is not Call or target.state is not None:
            raise ValueError("it sets the state of something that has none")
        target.state = state

    def put(self, key: int) -> None:
        """Remembers the value on top of the stack."""
        # NumPy never comes back to its tuples and lists, and there are many.
        if type(self._stack[-1]) in _REMEMBERED and len(self._memo) < _MAX_MEMO:
            self._memo[key] = self._stack[-1]

    def get(self, key: int) -> None:
        """Puts a remembered value on the stack."""
        self._stack.append(self._memo[key])


def _text(data: bytes | memoryview) -> str:
    return bytes(data).decode("utf-8", "surrogatepass")


def _number_of(line: bytes) -> int | bool:
    if line in (b"00", b"01"):
        return line == b"01"
    return int(line.removesuffix(b"L"))


_STOP, _MEMOIZE, _ONE_BYTE, _GET = b".\x94Kh"
_REMEMBERED = {Name, Call, str, bytes}
_INSTRUCTIONS: dict[int, Callable[[_Machine], Any]] = {
    ord(code): instruction
    for code, instruction in {
        # Protocol and frames, which say nothing that matters here.
        "\x80": lambda m: m.take(1),
        "\x95": lambda m: m.take(8),
        # Constants and numbers.
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": lambda m: m.push(_number_of(m.take_line())),
        "L": lambda m: m.push(_number_of(m.take_line())),
        "J": lambda m: m.push(m.take_number(4, signed=True)),
        "M": lambda m: m.push(m.take_number(2)),
        "\x8a": lambda m: m.push(m.take_number(m.take_number(1), signed=True)),
        # Bytes, of which the first two are the strings of Python 2, and text.
        "T": lambda m: m.push(m.take_sized(4)),
        "U": lambda m: m.push(m.take_sized(1)),
        "B": lambda m: m.push(m.take_sized(4)),
        "C": lambda m: m.push(m.take_sized(1)),
        "\x8e": lambda m: m.push(m.take_sized(8)),
        "\x96": lambda m: m.push(m.take_sized(8)),
        "V": lambda m: m.push(m.take_line().decode("raw-unicode-escape")),
        "X": lambda m: m.push(_text(m.take_sized(4))),
        "\x8c": lambda m: m.push(_text(m.take_sized(1))),
        "\x8d": lambda m: m.push(_text(m.take_sized(8))),
        # Tuples and lists.
        "(": _Machine.mark,
        ")": lambda m: m.push(()),
        "\x85": lambda m: m.push_tuple(1),
        "\x86": lambda m: m.push_tuple(2),
        "\x87": lambda m: m.push_tuple(3),
        "t": lambda m: m.push(tuple(m.pop_marked())),
        "]": lambda m: m.push([]),
        "l": lambda m: m.push(m.pop_marked()),
        "a": lambda m: m.extend([m.pop()]),
        "e": lambda m: m.extend(m.pop_marked()),
        # References and calls.
        "c": lambda m: m.push_name(_text(m.take_line()), _text(m.take_line())),
        "\x93": _Machine.push_named,
        "R": _Machine.call,
        "b": _Machine.set_state,
        # The memo.
        "p": lambda m: m.put(_number_of(m.take_line())),
        "q": lambda m: m.put(m.take_number(1)),
        "r": lambda m: m.put(m.take_number(4)),
        "g": lambda m: m.get(_number_of(m.take_line())),
        "j": lambda m: m.get(m.take_number(4)),
    }.items()
}
