# SPDX-License-Identifier: Apache-2.0
"""The image service, as it is asked while many instances are gone through."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import image_sets
from nova_snap.context import RequestContext

LOG = log.getLogger(__name__)

_T = TypeVar("_T")

_AWAY = (exception.ImageServiceUnavailable, exception.IdentityServiceUnavailable)


_READ: Final = "asked"
_DELETE: Final = "told to delete"


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

    One that only does not delete, because its store is broken or hangs, still says which images are
    whole: it is told to delete no more, and asked all the same.

    :ivar away: whether it did not answer, or not delete; what is asked after that fails at once.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._errors: dict[str, exception.NovaSnapError] = {}

    @property
    def away(self) -> bool:
        return bool(self._errors)

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """See :class:`Images`."""
        return self._ask(_READ, lambda: self._images.get(context, image_id))

    def get_all(
        self, context: RequestContext, filters: Mapping[str, str]
    ) -> Sequence[Mapping[str, Any]]:
        """See :class:`Images`."""
        return self._ask(_READ, lambda: self._images.get_all(context, filters))

    def delete(self, context: RequestContext, image_id: str) -> None:
        """See :class:`Images`."""
        self._ask(_DELETE, lambda: self._images.delete(context, image_id))

    def _ask(self, what: str, call: Callable[[], _T]) -> _T:
        known = self._errors.get(_READ) or self._errors.get(what)
        if known is not None:
            raise known.with_traceback(None)
        try:
            return call()
        except _AWAY as error:
            LOG.warning("The image service is not %s any more in this pass: %s", what, error)
            self._errors[what] = error
            raise
