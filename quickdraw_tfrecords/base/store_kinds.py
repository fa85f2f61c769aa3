"""The kinds of stores, and what has to be installed for each."""

import functools
import importlib

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.lazy_imports import keep_to_their_thread
from quickdraw_tfrecords.base.store_backends import Backend, Login

# What must be installed for a scheme: an extra of this package, and what it installs.
_NEEDED = {
    "s3": ("s3", "s3fs"),
    "gs": ("gcs", "gcsfs"),
    "http": ("http", "aiohttp"),
    "https": ("http", "aiohttp"),
}


@functools.lru_cache
def open_backend(scheme: str, login: Login | None, process: int) -> Backend:
    """The backend for a scheme; the same one each time.

    Args:
      scheme: What URLs begin with.
      login: Who asks, if the URL says so.
      process: This one's id: a connection does not outlive a fork.

    Raises:
      UsageError: The store takes no login from a URL.
    """
    keep_to_their_thread()  # since requests are made by others
    # Each needs its own libraries, and reading local files none of them.
    if scheme == "s3":
        from quickdraw_tfrecords.base.store_s3 import S3Backend

        return S3Backend(login)
    if scheme == "gs":
        from quickdraw_tfrecords.base.store_gcs import GcsBackend

        if login:
            raise UsageError("gs://: takes no user name; put credentials in the environment")
        return GcsBackend()
    from quickdraw_tfrecords.base.store_web import WebBackend

    return WebBackend(scheme, login)


def require_package(scheme: str) -> None:
    """Makes sure that what a scheme needs can be imported.

    Raises:
      UsageError: There is no such scheme, or it is not installed.
    """
    if scheme not in _NEEDED:
        schemes = ", ".join(f"{name}://" for name in _NEEDED)
        raise UsageError(f"{scheme}://: must be one of {schemes}, or a path")
    extra, package = _NEEDED[scheme]
    try:
        importlib.import_module(package)
    except ImportError:
        raise UsageError(
            f"{scheme}://: needs {package}: pip install 'quickdraw-tfrecords[{extra}]'"
        ) from None
