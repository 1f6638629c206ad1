# SPDX-License-Identifier: Apache-2.0
"""What this process is busy with, to be told from what the database says that somebody is."""

import threading
from collections import Counter


class InHand:
    """Images that a thread, or a queue, of this process works for.

    One is entered before the instance is claimed for it and leaves after the instance is free, so
    that a claim without an entry here is one that nobody will end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: Counter[str] = Counter()

    def enter(self, image_id: str) -> bool:
        """Count one who works for it: a message that came twice does not end what runs.

        :returns: whether nobody else does.
        """
        with self._lock:
            self._images[image_id] += 1
            return self._images[image_id] == 1

    def leave(self, image_id: str) -> None:
        """Count one less."""
        with self._lock:
            self._images[image_id] -= 1
            if self._images[image_id] <= 0:
                del self._images[image_id]

    def __contains__(self, image_id: object) -> bool:
        with self._lock:
            return image_id in self._images
