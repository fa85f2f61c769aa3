"""The program that runs models in a browser: files of the npm package onnxruntime-web.

They are not part of this project. npm gets the package, from the registry that it is set up for;
what it gets must be the very file that this version was tested with.
https://onnxruntime.ai/docs/tutorials/web/
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from quickdraw_tfrecords.base.errors import DataError, UsageError

PACKAGE = "onnxruntime-web@1.30.0"
_INTEGRITY = (  # as npm states it: of the package's file
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg"
    "8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
_TIMEOUT_SECS = 600


def write(directory: Path, given: Path | None = None) -> None:
    """Writes the files of `FILES`.

    Args:
      directory: Where they go.
      given: A folder that holds them, or the package as npm installs it; None: npm gets it.

    Raises:
      UsageError: There is no npm, or the folder does not hold them.
      DataError: npm fails, or the package is another one.
    """
    directory.mkdir(parents=True)
    if given is not None:
        _copy(given, directory)
        return
    with tempfile.TemporaryDirectory() as scratch:
        package = _pack(Path(scratch))
        _require_tested(package)
        with tarfile.open(package) as archive:
            for name in FILES:
                file = archive.extractfile(f"package/dist/{name}")
                assert file is not None  # the file is the one whose checksum is known
                with file, open(directory / name, "wb") as copy:
                    shutil.copyfileobj(file, copy)


def _copy(given: Path, directory: Path) -> None:
    for name in FILES:
        places = [path for path in (given / name, given / "dist" / name) if path.is_file()]
        if not places:
            raise UsageError(
                f"--runtime_dir={given}: has no {name}; it must be the folder of the npm package "
                f"{PACKAGE}, or its dist"
            )
        shutil.copyfile(places[0], directory / name)


def _pack(folder: Path) -> Path:
    """Has npm get the package's file."""
    command = ["npm", "pack", PACKAGE, f"--pack-destination={folder}"]
    command += ["--loglevel=error", "--fetch-retries=1"]  # says why, and does not wait for minutes
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECS)
    except FileNotFoundError:
        raise UsageError(
            f"--format=web needs npm, which gets {PACKAGE}: install Node.js, or name a folder with "
            "the package with --runtime_dir"
        ) from None
    except subprocess.TimeoutExpired:
        raise DataError(_failure(f"took more than {_TIMEOUT_SECS} seconds")) from None
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise DataError(_failure(f"failed: {reason}"))
    (package,) = folder.glob("*.tgz")
    return package


def _failure(how: str) -> str:
    return (
        f"npm pack {PACKAGE} {how}. Without a network, name a folder with the package with "
        "--runtime_dir"
    )


def _require_tested(package: Path) -> None:
    digest = hashlib.sha512(package.read_bytes()).digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != _INTEGRITY:
        raise DataError(f"{PACKAGE}: npm got another file than the one with {_INTEGRITY}")
