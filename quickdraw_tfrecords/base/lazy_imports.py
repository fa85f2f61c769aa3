"""Imports of one thread that are lazy must not make those of the others so.

While TFDS is imported, a library of its own (etils) replaces Python's `__import__` for the whole
process. What another thread imports meanwhile is a stand-in, which fails when it is called.
"""

import builtins
import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any


@functools.cache
def keep_to_their_thread() -> None:
    """From now on, lazy imports are of their own thread; to be called before there are two."""
    from etils import epy  # not everyone needs it

    make_lazy = epy.lazy_imports

    @contextlib.contextmanager
    def lazy_imports(**options: Any) -> Iterator[None]:
        everyones, thread = builtins.__import__, threading.get_ident()
        with make_lazy(**options):
            lazy = builtins.__import__

            def import_(*args: Any, **kwargs: Any) -> Any:
                is_lazy = threading.get_ident() == thread
                return (lazy if is_lazy else everyones)(*args, **kwargs)

            builtins.__import__ = import_
            yield

    epy.lazy_imports = lazy_imports
