"""A deadline for the steps of an HTTP request, however busy the server seems."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator


class Deadline:
    """Cuts a connection off when a step of a request takes too long.

    The timeout of a socket is one of silence. A server that sends a byte now and then, or
    "100 Continue" forever, never runs into it.
    """

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._has_passed = False

    def hold_socket(self) -> None:
        """Keeps the connection's socket: http.client drops it if the server is going to close."""
        self._socket = self._connection.sock

    @contextlib.contextmanager
    def within(self, secs: float) -> Iterator[None]:
        """Limits the time of what is done in the context.

        Raises:
          TimeoutError: The time is over; in place of any error that this led to.
        """
        timer = threading.Timer(secs, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException):
            if not self._has_passed:
                raise
        finally:
            timer.cancel()
        # Also where there was no error: http.client takes a head that is cut off for a whole one.
        if self._has_passed:
            raise TimeoutError(f"the server took more than {secs:g} s")

    def _cut(self) -> None:
        self._has_passed = True
        for each in (self._connection.sock, self._socket):
            with contextlib.suppress(OSError):  # it may just have ended by itself
                if each:
                    each.shutdown(socket.SHUT_RDWR)
