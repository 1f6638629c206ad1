# SPDX-License-Identifier: Apache-2.0
"""The image service, through python-glanceclient: the only module that speaks to it."""

import contextlib
import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO, TypeVar

import glanceclient
import glanceclient.exc
import tenacity
from oslo_config import cfg
from oslo_log import log
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import download, errors, http, location, verification
from nova_snap.image.client import Connector
from nova_snap.image.connection import Breaker
from nova_snap.image.upload import Body, ImageData, SizedBody

LOG = log.getLogger(__name__)

_T = TypeVar("_T")
OnCancel = Callable[[Callable[[], None]], None]

_MAX_RETRY_INTERVAL = 30
_WORTH_ANOTHER_TRY = (exception.ImageServiceUnavailable, exception.IdentityServiceUnavailable)


class API:
    """Images, as the other rooms use them.

    Every method raises :class:`nova_snap.exception.ImageServiceUnavailable` when the image
    service cannot be reached after ``[glance] num_retries`` more tries,
    :class:`nova_snap.exception.ImageForbidden` when it refuses the caller,
    :class:`nova_snap.exception.ImageNotFound` when the image is not there, and
    :class:`nova_snap.exception.IdentityError` when nova_snap cannot say who asks.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._connector = Connector(conf)

    def url(self, context: RequestContext, image_id: str) -> str:
        """Where a user finds an image, as Nova has said it since before there were versions."""
        return f"{self._connector.endpoint(context)}/images/{image_id}"

    # -- records ---------------------------------------------------------------------------

    def create(self, context: RequestContext, image_meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a record in status ``queued``.

        :param image_meta: attributes of the image; ``properties`` holds those of the user. With
            an ``id`` whoever asks knows it before there is an answer.
        :returns: the record, flat as the image service has it.
        :raises nova_snap.exception.InvalidImageProperty: if the image service refuses a value.
        :raises nova_snap.exception.ImageTooLarge: if there are too many properties.
        """
        # The id is chosen here so that a try whose answer was lost is recognised by the next.
        image_id = image_meta.get("id") or uuidutils.generate_uuid()
        values = {**_flat(image_meta), "id": image_id}
        tries = itertools.count()

        def once(client: Any) -> Mapping[str, Any]:
            first = next(tries) == 0
            try:
                return http.create(client, values)
            except glanceclient.exc.HTTPConflict:
                if first:
                    raise
                return http.record(client, image_id)

        return self._call(context, once, image_id)

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """The record, flat as the image service has it."""
        return self._call(context, lambda client: http.record(client, image_id), image_id)

    def get_all(
        self,
        context: RequestContext,
        filters: Mapping[str, str],
        *,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[Mapping[str, Any]]:
        """Every image that the caller may see and that has these attributes and properties, newest
        first; the image service is asked page by page.

        :param limit: how many at the most.
        :param marker: the id of the last image of the page before.
        :raises nova_snap.exception.InvalidImageProperty: for a filter or a marker that it refuses.
        """
        query = {**filters, "sort": "created_at:desc"}
        if marker is not None:
            query["marker"] = marker
        return self._call(context, lambda client: http.find(client, query, limit), "-")

    def set_properties(
        self,
        context: RequestContext,
        image_id: str,
        properties: Mapping[str, str],
        remove: Collection[str] = (),
    ) -> Mapping[str, Any]:
        """Set properties and remove others.

        :returns: the record after that.
        :raises nova_snap.exception.InvalidImageProperty: if the image service refuses one.
        """
        return self._call(
            context,
            lambda client: http.set_properties(client, image_id, properties, remove),
            image_id,
        )

    def delete(self, context: RequestContext, image_id: str) -> None:
        """Delete the image and its data.

        :raises nova_snap.exception.ImageServiceError: also if it is still there after that.
        """

        def once(client: Any) -> str:
            http.delete(client, image_id)
            try:
                return str(http.record(client, image_id)["status"])
            except glanceclient.exc.HTTPNotFound:
                return "deleted"

        status = self._call(context, once, image_id)
        if status not in verification.GONE:
            reason = f"image {image_id} is still {status} after it was deleted"
            raise exception.ImageServiceError(reason=reason)

    def add_member(self, context: RequestContext, image_id: str, project_id: str) -> None:
        """Let another project use a shared image; one that may already is left alone."""

        def once(client: Any) -> None:
            with contextlib.suppress(glanceclient.exc.HTTPConflict):
                http.add_member(client, image_id, project_id)

        self._call(context, once, image_id)

    # -- data ------------------------------------------------------------------------------

    def update(
        self,
        context: RequestContext,
        image_id: str,
        metadata: Mapping[str, Any],
        data: ImageData | None = None,
        size: int | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Mapping[str, Any]:
        """Set properties, leaving the others alone, and with ``data`` send the content.

        :param metadata: as for :meth:`create`.
        :param data: seekable; every try reads it from byte 0.
        :param size: length of ``data`` in bytes, announced to the image service; ``None`` where
            only the end of it tells.
        :param on_cancel: handed what ends the sending from another thread; it then fails at once,
            as if the connection had broken, and is not tried again.
        :returns: the record after that.
        :raises nova_snap.exception.ImageConflict: if the image has data already.
        :raises nova_snap.exception.ImageRejected: if the image service finds the data unfit, or
            holds other bytes than were sent.
        """
        values = _flat(metadata)
        if data is None:
            return self._set(context, image_id, values)
        if values:
            self._set(context, image_id, values)
        settings = self._conf.glance
        algorithm = settings.hash_algorithm if settings.verify_uploads else None
        body = Body(data, algorithm) if size is None else SizedBody(data, size, algorithm)
        breaker = Breaker()
        if on_cancel is not None:
            on_cancel(breaker.break_off)
        self._call(
            context, lambda client: self._send(client, image_id, body, breaker), image_id, breaker
        )
        return self._verified(context, image_id, body, breaker)

    def add_location(
        self, context: RequestContext, image_id: str, url: str, metadata: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Set properties, and make data that are in the image service's store the image's.

        :param url: as the store's driver writes it, such as ``rbd://fsid/pool/image/snap``.
        :param metadata: as for :meth:`create`.
        :returns: the record after that, in status ``active``.
        :raises nova_snap.exception.ImageLocationRefused: if the image service takes no location,
            or not this one.
        """
        values = _flat(metadata)
        seconds: float = self._conf.glance.timeout

        def once(client: Any) -> Mapping[str, Any]:
            return location.add(client, image_id, url, seconds)

        if values:
            self._set(context, image_id, values)
        return self._call(context, once, image_id)

    def _set(
        self, context: RequestContext, image_id: str, values: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return self._call(
            context, lambda client: http.set_properties(client, image_id, values), image_id
        )

    def _send(self, client: Any, image_id: str, body: Body, breaker: Breaker) -> None:
        """One try at the upload."""
        if body.used and self._has_arrived(client, image_id, body):
            return
        body.rewind()
        try:
            http.put(client, f"/v2/images/{image_id}/file", body, breaker)
        except glanceclient.exc.HTTPBadRequest as error:
            raise exception.ImageRejected(
                image_id=image_id, reason=errors.details(error)
            ) from error

    def _has_arrived(self, client: Any, image_id: str, body: Body) -> bool:
        """Whether the try before did all of its work and only its answer was lost."""
        status = http.record(client, image_id)["status"]
        if status == "active" and body.complete:
            return True
        if status == "saving":
            # The image service has not noticed yet that the connection is gone.
            raise exception.ImageServiceUnavailable(
                endpoint=client.http_client.endpoint,
                reason=f"image {image_id} is still being saved by the try before",
            )
        return False

    def _verified(
        self, context: RequestContext, image_id: str, body: Body, breaker: Breaker
    ) -> Mapping[str, Any]:
        """The record, if the image service holds the bytes that were sent."""
        record = verification.wait_active(
            lambda: self.get(context, image_id), image_id, self._conf.glance.timeout, breaker.broken
        )
        verification.compare(record, body)
        return record

    def download(
        self,
        context: RequestContext,
        image_id: str,
        target: BinaryIO,
        check: Callable[[], None],
    ) -> int:
        """Write the image's data into a file; every try begins with an empty one.

        :param target: seekable; what is zero is left out of it where a file system can do so.
        :param check: called for each piece of data; what it raises ends the download.
        :returns: how many bytes the image has.
        :raises nova_snap.exception.ImageCorrupt: if what came has another length or hash than the
            record says, or there is nothing.
        """
        record = self.get(context, image_id)
        writer = download.Target(target, image_id, record)
        return self._call(
            context, lambda client: download.fetch(client, image_id, writer, check), image_id
        )

    # -- connections -----------------------------------------------------------------------

    def _call(
        self,
        context: RequestContext,
        function: Callable[[Any], _T],
        image_id: str,
        breaker: Breaker | None = None,
    ) -> _T:
        """Run ``function`` with a client, again where that can help; errors become ours."""
        broken = (breaker or Breaker()).broken
        interval = self._conf.glance.retry_interval
        retrying = tenacity.Retrying(
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self._conf.glance.num_retries + 1),
                tenacity.stop_when_event_set(broken),
            ),
            sleep=tenacity.sleep_using_event(broken),
            wait=tenacity.wait_exponential(multiplier=interval, max=_MAX_RETRY_INTERVAL),
            retry=tenacity.retry_if_exception_type(_WORTH_ANOTHER_TRY),
            before_sleep=_log_retry,
            reraise=True,
        )
        result: _T = retrying(self._once, context, function, image_id)
        return result

    def _once(self, context: RequestContext, function: Callable[[Any], _T], image_id: str) -> _T:
        connection = self._connector.connect(context)
        with errors.translated(connection.endpoint, image_id):
            try:
                return function(connection.client)
            except glanceclient.exc.HTTPUnauthorized:
                if not connection.renew():
                    LOG.warning("The image service refused the token of %s", context.user_id)
                    raise
                LOG.info("The image service refused the service's token: a new one is asked for")
            return function(connection.client)


def _flat(image_meta: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes and properties side by side, as version 2 of the Image API has them."""
    attributes = {key: value for key, value in image_meta.items() if key != "properties"}
    flat = {**image_meta.get("properties", {}), **attributes}
    return {key: value for key, value in flat.items() if value is not None}


def _log_retry(state: tenacity.RetryCallState) -> None:
    outcome = state.outcome
    LOG.warning(
        "Try %d at the image service failed, the next in %.1f s: %s",
        state.attempt_number,
        state.next_action.sleep if state.next_action else 0,
        outcome.exception() if outcome else None,
    )
