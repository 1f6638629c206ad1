# SPDX-License-Identifier: Apache-2.0
"""The image service, as it is asked while many instances are gone through."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import image_sets
from nova_snap.context import RequestContext

LOG = log.getLogger(__name__)

_T = TypeVar("_T")

_AWAY = (exception.ImageServiceUnavailable, exception.IdentityServiceUnavailable)


class Images(image_sets.Lister, Protocol):
    """The image service, as those use it who look for what is left."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""

    def delete(self, context: RequestContext, image_id: str) -> None:
        """:raises nova_snap.exception.ImageNotFound:"""


class ImagePass:
    """Asks an image service until it does not answer, and then no more.

    To learn that it is away takes many tries, and minutes where it hangs. Whoever goes through all
    instances of a host learns it once, and not once for each.

    :ivar away: whether it did not answer; what is asked after that fails at once.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._error: exception.NovaSnapError | None = None

    @property
    def away(self) -> bool:
        return self._error is not None

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """See :class:`Images`."""
        return self._ask(lambda: self._images.get(context, image_id))

    def get_all(
        self, context: RequestContext, filters: Mapping[str, str]
    ) -> Sequence[Mapping[str, Any]]:
        """See :class:`Images`."""
        return self._ask(lambda: self._images.get_all(context, filters))

    def delete(self, context: RequestContext, image_id: str) -> None:
        """See :class:`Images`."""
        self._ask(lambda: self._images.delete(context, image_id))

    def _ask(self, call: Callable[[], _T]) -> _T:
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            return call()
        except _AWAY as error:
            LOG.warning("The image service is not asked any more in this pass: %s", error)
            self._error = error
            raise
