"""The sketchpad's server: who can reach it, and how it answers."""

import socket

import flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from quickdraw_tfrecords.base.errors import UsageError


class _RequestHandler(WSGIRequestHandler):
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
    return make_server(
        host,
        port,
        application,
        threaded=True,
        request_handler=_RequestHandler,
        fd=listener.detach(),
    )
