"""Servers that do as they like with a connection."""

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator

# Of a client that soon gives up on them.
PATIENCE = {"stall_secs": 0.3, "backoff_secs": 0.001}

Behavior = Callable[[socketserver.StreamRequestHandler], None]


@contextlib.contextmanager
def serve(behavior: Behavior) -> Iterator[int]:
    """A server that does as it likes with each connection; its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            with contextlib.suppress(OSError):
                behavior(self)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
