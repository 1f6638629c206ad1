# SPDX-License-Identifier: Apache-2.0
"""A unix socket on which no wait is without end, and which another thread may close."""

import contextlib
import socket
import struct
import threading
import time

from nova_snap.stream import errors

TIMEVAL = struct.Struct("@ll")


class Deadline:
    """The end of one wait.

    :param seconds: from now.
    :param what: is waited for; the words of the error.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, not above zero once it has passed."""
        return self._end - time.monotonic()


class Wire:
    """One connection. Used by one thread; ``close`` may be called by any.

    The socket blocks, with the kernel's own timeouts: a payload then takes one system call, not one
    for every piece that has arrived with a poll before each.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Held during each system call, so that the file descriptor is not closed (and its number
        # given to another file) under one.
        self._busy = threading.Lock()
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def connect(self, deadline: Deadline) -> None:
        """:raises NBDConnectFailed: if nobody listens at the path until the deadline."""
        reason = "the server's queue of connections is full"
        while deadline.left > 0:
            try:
                with self._busy:
                    self._check(deadline)
                    self._socket.setblocking(False)
                    self._socket.connect(self.path)
                    self._socket.setblocking(True)
                return
            except BlockingIOError:
                self._closed.wait(min(0.02, max(0, deadline.left)))
            except OSError as error:
                reason = error.strerror or str(error)
                break
        raise errors.NBDConnectFailed(server=self.path, reason=reason)

    def send(self, data: bytes | bytearray, deadline: Deadline) -> None:
        """Send all of it.

        :raises NBDTimeout: if the server does not take it until the deadline.
        :raises NBDDisconnected: if the connection ends.
        """
        view = memoryview(data)
        while view:
            with self._busy:
                self._arm(socket.SO_SNDTIMEO, deadline)
                try:
                    sent = self._socket.send(view, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self._ended(deadline) from error
            view = view[sent:]

    def receive_into(self, view: memoryview, deadline: Deadline) -> None:
        """Fill it.

        :raises NBDTimeout: if it is not full at the deadline, however steadily bytes drip in.
        :raises NBDDisconnected: if the connection ends.
        """
        while view:
            with self._busy:
                self._arm(socket.SO_RCVTIMEO, deadline)
                try:
                    received = self._socket.recv_into(view, len(view), socket.MSG_WAITALL)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self._ended(deadline) from error
            if not received:
                raise self._ended(deadline)
            view = view[received:]

    def receive(self, length: int, deadline: Deadline) -> bytearray:
        """:param length: in bytes; the caller has checked that it is sane."""
        data = bytearray(length)
        self.receive_into(memoryview(data), deadline)
        return data

    def close(self, farewell: bytes = b"") -> None:
        """End the connection; whoever waits in it gets ``NBDClosed`` at once.

        :param farewell: sent if it can be without waiting, and if nobody uses the connection.
        """
        if farewell and self._busy.acquire(blocking=False):
            try:
                if not self._closed.is_set():
                    with contextlib.suppress(OSError):
                        self._socket.send(farewell, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            finally:
                self._busy.release()
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        # The shutdown has ended the other thread's system call, if there was one.
        with self._busy:
            self._socket.close()

    def _arm(self, option: int, deadline: Deadline) -> None:
        """Let the next system call take no longer than the deadline allows."""
        self._check(deadline)
        left = deadline.left
        if left <= 0:
            raise errors.NBDTimeout(server=self.path, what=deadline.what, seconds=deadline.seconds)
        # Zero would mean no timeout.
        microseconds = max(1000, int(left * 1_000_000))
        self._socket.setsockopt(
            socket.SOL_SOCKET, option, TIMEVAL.pack(*divmod(microseconds, 1_000_000))
        )

    def _check(self, deadline: Deadline) -> None:
        if self._closed.is_set():
            raise self._ended(deadline)

    def _ended(self, deadline: Deadline) -> errors.NBDDisconnected:
        kind = errors.NBDClosed if self._closed.is_set() else errors.NBDDisconnected
        return kind(server=self.path, what=deadline.what)
