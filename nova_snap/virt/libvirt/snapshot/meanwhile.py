# SPDX-License-Identifier: Apache-2.0
"""A request that nothing has to wait for yet, made while the point in time is taken."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Final

_LOOK_SECONDS: Final = 0.5


class Meanwhile:
    """Runs ``function`` in a thread of its own from now on.

    If nobody asks for its end any more it ends by itself, and what it raised does not matter.

    :param name: of the thread.
    """

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        self._function = function
        self._end: futures.Future[None] = futures.Future()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as exc:
            self._end.set_exception(exc)
        else:
            self._end.set_result(None)

    def wait(self, check: Callable[[], None]) -> None:
        """Wait until it has ended, and raise what it raised.

        :param check: called again and again; what it raises ends the wait.
        """
        while True:
            try:
                return self._end.result(timeout=_LOOK_SECONDS)
            except futures.TimeoutError:
                # Its own, if it has ended with one.
                if self._end.done():
                    return self._end.result(timeout=0)
            check()
