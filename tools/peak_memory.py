"""The most memory that a process has had."""

import re
from pathlib import Path

_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def of_process(pid: int | str = "self") -> int | None:
    """Its largest resident set so far, in bytes; None once it has ended.

    Not `ru_maxrss`: a new process inherits that from its parent.
    """
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    except FileNotFoundError:
        return None
    return 1024 * int(found[1]) if found else None
