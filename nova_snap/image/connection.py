# SPDX-License-Identifier: Apache-2.0
"""HTTP connections that another thread can break.

A thread that sends to a server which does not read sits in the kernel, and asks nobody whether
its data is still wanted. To shut its socket down is what wakes it.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import requests.adapters
from urllib3 import connection, connectionpool

Register = Callable[[socket.socket], None]


class Breaker:
    """Ends whatever is being sent, once, for good.

    :param whole: this one is a part of: it ends with that, and that does not end with it.
    :ivar broken: set when nothing is to be sent any more; to be waited for between two tries.
    """

    def __init__(self, whole: "Breaker | None" = None) -> None:
        self._whole = whole
        self.broken = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def break_off(self) -> None:
        """Shut every connection down, and each that is made from now on. It returns at once."""
        with self._lock:
            self.broken.set()
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            _shut(each)

    def adapter(self) -> requests.adapters.BaseAdapter:
        """For a session whose connections this breaks."""
        return _Adapter(self._register)

    def _register(self, made: socket.socket) -> None:
        if self._whole is not None:
            self._whole._register(made)
        with self._lock:
            if not self.broken.is_set():
                self._sockets.append(made)
                return
        _shut(made)


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, register: Register) -> None:
        self._register = register
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._register)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _pools(self._register)
        return manager


def _pools(register: Register) -> dict[str, type[connectionpool.HTTPConnectionPool]]:
    class Connection(connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            register(self.sock)

    class SecureConnection(connection.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            register(self.sock)

    class Pool(connectionpool.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(connectionpool.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


def _shut(made: socket.socket) -> None:
    # Not the method of an SSL socket, which takes its layer away from under the thread that sends.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(made, socket.SHUT_RDWR)
