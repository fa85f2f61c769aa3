"""The sketchpad's server: who can reach it, and how it answers."""

import socket
import threading
from typing import Any

import flask
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler

from quickdraw_tfrecords.base.errors import UsageError

IDLE_SECS = 60.0  # that a connection may be silent; a browser opens another when it needs one
MAX_CONNECTIONS = 64  # each is a thread and a file


class _RequestHandler(WSGIRequestHandler):
    timeout = IDLE_SECS
    protocol_version = "HTTP/1.1"  # keeps connections, where 1.0 would open one for each guess

    def log_request(self, *args: object) -> None:
        """Says nothing: there is one for every piece of a stroke."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
      UsageError: The address is not one of this machine, or the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host={host} --port={port}: cannot be listened on: {reason}") from None


def make_local_server(application: flask.Flask, listener: socket.socket) -> BaseWSGIServer:
    """A server of one process that answers requests beside each other."""
    host, port = listener.getsockname()[:2]
    return _Server(host, port, application, _RequestHandler, fd=listener.detach())


class _Server(ThreadedWSGIServer):
    """Closes at once what would be too many connections, before files run out for all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()
