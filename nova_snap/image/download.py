# SPDX-License-Identifier: Apache-2.0
"""The data of an image, read out of the image service, counted and hashed while it is written."""

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import glanceclient.exc
from oslo_log import log

from nova_snap import exception
from nova_snap.image.receiver import Receiver

LOG = log.getLogger(__name__)


class Target:
    """A file that takes an image: empty at the start of each try, and never more than the image.

    What is zero is left out of it where a file system can do so.

    :param record: of the image; it tells the size and the hash.
    """

    def __init__(self, file: BinaryIO, image_id: str, record: Mapping[str, Any]) -> None:
        self._file = file
        self._image_id = image_id
        self._size: int | None = record.get("size")
        self._expected, self._algorithm = _expected_hash(image_id, record)
        self.rewind()

    def rewind(self) -> None:
        """Begin again with nothing."""
        self._file.seek(0)
        self._file.truncate()
        self._written = 0
        self._hash = hashlib.new(self._algorithm, usedforsecurity=False)

    def write(self, piece: bytes) -> None:
        """:raises nova_snap.exception.ImageCorrupt: if this is more than the image has."""
        self._written += len(piece)
        if self._size is not None and self._written > self._size:
            raise self._corrupt(f"more than its {self._size} bytes came")
        self._hash.update(piece)
        if piece.count(0) == len(piece):
            self._file.seek(len(piece), os.SEEK_CUR)
        else:
            self._file.write(piece)

    def finish(self) -> int:
        """Compare what came with what the record says.

        :returns: how many bytes the image has.
        :raises EOFError: if something is missing.
        :raises nova_snap.exception.ImageCorrupt: if the hash is another one.
        """
        if self._size is not None and self._written < self._size:
            raise EOFError(f"the data ended after {self._written} of {self._size} bytes")
        if self._expected is not None and self._hash.hexdigest() != self._expected:
            found = self._hash.hexdigest()
            raise self._corrupt(f"their {self._algorithm} is {found}, and it says {self._expected}")
        self._file.truncate(self._written)
        self._file.flush()
        return self._written

    def _corrupt(self, reason: str) -> exception.ImageCorrupt:
        return exception.ImageCorrupt(image_id=self._image_id, reason=reason)


def fetch(client: Any, image_id: str, target: Target, check: Callable[[], None]) -> int:
    """One try at a download.

    It is received in a thread of its own, and this one looks several times a second whether anybody
    still wants it: who sends a byte now and then would otherwise keep it for ever.

    :param client: glanceclient's.
    :param check: called for each piece, and while nothing comes; what it raises is raised.
    :returns: how many bytes the image has.
    :raises glanceclient.exc.HTTPException: if the image service refuses.
    :raises glanceclient.exc.CommunicationError: if the connection breaks.
    :raises nova_snap.exception.ImageCorrupt: as :class:`Target`.
    """
    target.rewind()
    with Receiver(client, image_id) as receiver:
        for piece in receiver.pieces(check):
            target.write(piece)
    try:
        return target.finish()
    except EOFError as error:
        raise glanceclient.exc.CommunicationError(message=str(error)) from error


def _expected_hash(image_id: str, record: Mapping[str, Any]) -> tuple[str | None, str]:
    """The hash that the data must have, and its algorithm."""
    algorithm, value = record.get("os_hash_algo"), record.get("os_hash_value")
    if algorithm in hashlib.algorithms_available and value:
        return str(value).lower(), str(algorithm)
    if record.get("checksum"):
        return str(record["checksum"]).lower(), "md5"
    LOG.warning("Image %s has no hash that its data could be compared with", image_id)
    return None, "sha512"
