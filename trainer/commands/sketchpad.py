"""Serves a page where one draws and sees a trained run's guesses change.

    quickdraw sketchpad --run_dir=runs/1

Only programs of this machine can reach it, unless --host says otherwise. Ctrl-C ends it.
"""

import os
import socket
from pathlib import Path

import flask
from absl import flags
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError


class _RequestHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, where 1.0 would open one for each guess

    def log_request(self, *args: object) -> None:
        """Says nothing: there is one for every piece of a stroke."""


def main() -> None:
    """Serves as the flags say, until it is interrupted."""
    args = flags.FLAGS
    listener = listen(args.host, args.port)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from trainer.serving.classifier import Classifier
    from trainer.serving.sketchpad import app  # imports TensorFlow

    application = app.create_app(Classifier.open(Path(args.run_dir)), Path(args.run_dir))
    server = make_local_server(application, listener)
    host = f"[{server.host}]" if ":" in server.host else server.host
    print(f"draw at http://{host}:{server.port}/   (Ctrl-C to end)", flush=True)
    server.serve_forever()  # ends quietly when it is interrupted


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


if __name__ == "__main__":
    flags.DEFINE_string("run_dir", None, "Run directory of the trainer.", required=True)
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 is all.")
    flags.DEFINE_integer("port", 8765, "Port to listen on; 0 takes a free one.", 0, 65535)
    cli.run(main)
