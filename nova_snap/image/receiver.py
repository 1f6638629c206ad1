# SPDX-License-Identifier: Apache-2.0
"""What the image service sends of an image, received in a thread that can be told to stop."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import glanceclient.exc
import requests
from oslo_log import log

from nova_snap import exception
from nova_snap.image import answers, http
from nova_snap.image.connection import Breaker

LOG = log.getLogger(__name__)

PIECE: Final = 64 * 1024
"""Bytes that are read, hashed and written at a time."""

# Pieces that are received before they are asked for.
_AHEAD: Final = 16

# How often who waits looks at whether anybody still wants the data, in seconds.
_POLL: Final = 0.2

# How long a thread may need to notice that its connection is gone, in seconds.
_END_SECONDS: Final = 1.0


class Receiver:
    """The data of an image, once; a context manager, at whose end the connection is broken.

    :param client: glanceclient's.
    """

    def __init__(self, client: Any, image_id: str) -> None:
        self._own = client.http_client
        self._image_id = image_id
        self._breaker = Breaker()
        self._ready: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="image-download", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._breaker.break_off()
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():
            LOG.warning("Image %s is still being received, and nobody wants it", self._image_id)

    def pieces(self, check: Callable[[], None]) -> Iterator[bytes]:
        """The data.

        :param check: called for each piece, and while nothing comes; what it raises is raised.
        :raises glanceclient.exc.HTTPException: if the image service refuses.
        :raises glanceclient.exc.CommunicationError: if the connection breaks, or the data do not
            begin within twice its timeout.
        :raises nova_snap.exception.ImageCorrupt: if there are none.
        """
        begin = time.monotonic() + http.WHOLE * self._own.timeout
        while True:
            check()
            try:
                found = self._ready.get(timeout=_POLL)
            except queue.Empty:
                if not self._began.is_set() and time.monotonic() >= begin:
                    reason = f"no answer within {http.WHOLE * self._own.timeout:g} s"
                    raise glanceclient.exc.CommunicationError(message=reason) from None
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            self._receive()
        except answers.BROKEN as error:
            end = glanceclient.exc.CommunicationError(message=str(error))
            end.__cause__ = error
        except BaseException as error:
            end = error
        self._put(end)

    def _receive(self) -> None:
        with http.breakable(self._own.session, self._breaker) as session, self._get(session) as got:
            if got.status_code == requests.codes.no_content:
                raise exception.ImageCorrupt(image_id=self._image_id, reason="there are none")
            if got.status_code != requests.codes.ok:
                raise answers.refusal(got)
            self._began.set()
            for piece in got.iter_content(PIECE):
                if not self._put(piece):
                    return

    def _get(self, session: requests.Session) -> requests.Response:
        # As it is: the hash is that of the data, not of what some proxy makes of them.
        headers = {"Accept": "application/octet-stream", **answers.IDENTITY}
        headers |= http.request_id(self._own)
        response: requests.Response = session.get(
            f"{self._own.endpoint}/v2/images/{self._image_id}/file",
            headers=headers,
            stream=True,
            timeout=self._own.timeout,
            allow_redirects=False,
        )
        return response

    def _put(self, item: bytes | BaseException | None) -> bool:
        """Hand something over; ``False`` if nobody wants it any more."""
        while not self._breaker.broken.is_set():
            try:
                self._ready.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False
