"""Servers to read from in a benchmark: nginx, which answers to reads as S3 does, and moto's S3.

nginx is about as fast as this machine allows, so that what is slow is who reads. moto is a whole
S3, but slow itself: it is written in Python.
"""

import contextlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from xml.sax import saxutils

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.stores import open_store

BUCKET = "bucket"
# What a process must have in its environment; the servers do not look.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
}

_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
_CONFIG = """
{head}
daemon off;
worker_processes 1;
pid {scratch}/pid;
error_log {scratch}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  root {scratch}/root;
  server {{
    listen 127.0.0.1:{port} backlog=512;
    location = /{bucket} {{ rewrite ^ /list.xml last; }}
    location / {{ {delay} }}
    location @files {{ }}
  }}
}}
"""
_START_SECS = 30.0


@contextlib.contextmanager
def nginx(folder: Path, *, latency_secs: float) -> Iterator[str]:
    """Serves a folder as a bucket.

    Args:
      folder: The data set's.
      latency_secs: How long each request waits for its answer.

    Yields:
      The server's URL.

    Raises:
      UsageError: It is not installed.
    """
    if not shutil.which("nginx"):
        raise UsageError("--server=nginx: needs nginx: apt-get install nginx-light")
    if latency_secs and not _ECHO.exists():
        raise UsageError("--latency_ms: nginx needs it: apt-get install libnginx-mod-http-echo")
    with tempfile.TemporaryDirectory(prefix="benchmark_store_") as name:
        scratch, port = Path(name), _free_port()
        root = scratch / "root"
        root.mkdir()
        (root / BUCKET).symlink_to(folder.absolute())
        (root / "list.xml").write_text(_listing(folder))
        head = "user root;" if os.getuid() == 0 else ""  # else its worker may read nothing
        delay = ""
        if latency_secs:
            head += f"load_module {_ECHO};"
            delay = f"echo_sleep {latency_secs}; echo_exec @files;"
        config = _CONFIG.format(head=head, scratch=scratch, port=port, bucket=BUCKET, delay=delay)
        (scratch / "nginx.conf").write_text(config)
        command = ["nginx", "-p", name, "-c", str(scratch / "nginx.conf")]
        with _running(subprocess.Popen(command), port):
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def moto(folder: Path, *, latency_secs: float) -> Iterator[str]:
    """Serves a copy of a folder in a bucket; see `nginx`."""
    port = _free_port()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_serve_moto, args=(port, latency_secs))
    process.start()
    with _running(process, port):
        url = f"http://127.0.0.1:{port}"
        subprocess.run(["curl", "-s", "-X", "PUT", f"{url}/{BUCKET}"], check=True)
        with environment(url):
            store = open_store(f"s3://{BUCKET}")
            for path in folder.iterdir():
                store.write(path.name, path)
        yield url


def _serve_moto(port: int, latency_secs: float) -> None:
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug import serving

    app = DomainDispatcherApplication(create_backend_app)

    def delayed(environ: dict[str, Any], start_response: Any) -> Any:
        time.sleep(latency_secs)
        return app(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    serving.run_simple("127.0.0.1", port, delayed, threaded=True)


@contextlib.contextmanager
def environment(url: str) -> Iterator[None]:
    """Sets what this process and those that it starts need to know of a server."""
    with mock.patch.dict(os.environ, ENVIRONMENT | {"AWS_ENDPOINT_URL": url}):
        yield


@contextlib.contextmanager
def _running(process: Any, port: int) -> Iterator[None]:
    """Waits until a server answers, and ends it at the end."""
    try:
        deadline = time.monotonic() + _START_SECS
        while not _answers(port):
            if time.monotonic() > deadline:
                raise DataError(f"the server on port {port} does not answer")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        (process.wait if isinstance(process, subprocess.Popen) else process.join)()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _listing(folder: Path) -> str:
    """What S3 answers to the question for all objects of the bucket; ETags are those of nginx."""
    contents = "".join(
        f"<Contents><Key>{saxutils.escape(path.name)}</Key><Size>{path.stat().st_size}</Size>"
        f"<ETag>&quot;{int(path.stat().st_mtime):x}-{path.stat().st_size:x}&quot;</ETag>"
        "<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
        for path in sorted(folder.iterdir())
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    )
