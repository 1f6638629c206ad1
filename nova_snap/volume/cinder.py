# SPDX-License-Identifier: Apache-2.0
"""The volume service, through python-cinderclient: the only module that speaks to it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import tenacity
from cinderclient import exceptions as cinder_exceptions
from oslo_config import cfg
from oslo_log import log

from nova_snap import exception, identity
from nova_snap.context import RequestContext
from nova_snap.volume.client import Connector
from nova_snap.volume.model import Snapshot, SnapshotLimits, Volume

LOG = log.getLogger(__name__)

_T = TypeVar("_T")

IMAGE_KEY: Final = "nova_snap_image_id"
"""Metadata of a volume snapshot: the image that it was made for. Whoever comes after a process
that died finds its snapshots by it."""

_UNAVAILABLE: Final = (429, 502, 503, 504)
_RETRY_SECONDS: Final = 0.5
_MAX_RETRY_SECONDS: Final = 10.0


class API:
    """Volumes and their snapshots, as the other rooms use them.

    Every method raises :class:`nova_snap.exception.VolumeServiceUnavailable` when the volume
    service cannot be reached, :class:`nova_snap.exception.VolumeForbidden` when it refuses the
    caller, another :class:`nova_snap.exception.VolumeServiceError` when its answer is of no use,
    and :class:`nova_snap.exception.IdentityError` when nova_snap cannot say who asks. Those that
    may be repeated are, ``[cinder] http_retries`` times.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._retries: int = conf.cinder.http_retries
        self._connector = Connector(conf)

    def get_volume(self, context: RequestContext, volume_id: str) -> Volume:
        """:raises nova_snap.exception.VolumeNotFound: if the caller may see none of that id."""
        missing = exception.VolumeNotFound(volume_id=volume_id)
        return self._repeated(
            context, lambda client: _volume(client.volumes.get(volume_id)), missing
        )

    def get_snapshot_limits(self, context: RequestContext) -> SnapshotLimits:
        """How many snapshots the caller's project may have, and has."""

        def once(client: Any) -> SnapshotLimits:
            limits = {limit.name: limit.value for limit in client.limits.get().absolute}
            return SnapshotLimits(
                int(limits.get("maxTotalSnapshots", -1)), int(limits.get("totalSnapshotsUsed", 0))
            )

        return self._repeated(context, once)

    def create_snapshot_force(
        self,
        context: RequestContext,
        volume_id: str,
        name: str,
        description: str | None,
        image_id: str,
        seconds: float,
    ) -> Snapshot:
        """Have a snapshot made of a volume that may be attached. It is asked for once.

        :param image_id: what it is for: see :data:`IMAGE_KEY`.
        :param seconds: that the request may take.
        :returns: the snapshot, which is mostly still ``creating``.
        :raises nova_snap.exception.VolumeQuotaExceeded: if that would be too many, or too large.
        :raises nova_snap.exception.InvalidVolume: if the volume's status forbids it.
        :raises nova_snap.exception.VolumeNotFound: if there is none of that id.
        :raises nova_snap.exception.VolumeServiceUnavailable: the snapshot may have been made
            nevertheless.
        """

        def once(client: Any) -> Snapshot:
            made = client.volume_snapshots.create(
                volume_id,
                force=True,
                name=name,
                description=description,
                metadata={IMAGE_KEY: image_id},
            )
            return _snapshot(made)

        return self._once(
            context, once, exception.VolumeNotFound(volume_id=volume_id), seconds=seconds
        )

    def get_snapshot(self, context: RequestContext, snapshot_id: str, seconds: float) -> Snapshot:
        """Look at a snapshot, once: for callers that look again.

        :param seconds: that the request may take.
        :raises nova_snap.exception.VolumeSnapshotNotFound: if there is none of that id.
        """
        missing = exception.VolumeSnapshotNotFound(snapshot_id=snapshot_id)
        return self._once(
            context,
            lambda client: _snapshot(client.volume_snapshots.get(snapshot_id)),
            missing,
            seconds=seconds,
        )

    def snapshots_for_image(
        self, context: RequestContext, volume_id: str, image_id: str
    ) -> list[Snapshot]:
        """The snapshots of a volume that were made for an image; an administrator finds those of
        any project."""
        search = {"volume_id": volume_id}
        if context.is_admin:
            search["all_tenants"] = "1"

        def once(client: Any) -> list[Snapshot]:
            found = client.volume_snapshots.list(search_opts=search)
            return [made for made in map(_snapshot, found) if made.image_id == image_id]

        return self._repeated(context, once)

    def delete_snapshot(self, context: RequestContext, snapshot_id: str) -> None:
        """Have a snapshot deleted; one that is gone already is fine.

        :raises nova_snap.exception.InvalidVolume: if its status forbids it: it is being created.
        """

        def once(client: Any) -> None:
            with contextlib.suppress(cinder_exceptions.NotFound):
                client.volume_snapshots.delete(snapshot_id)

        self._repeated(context, once)

    # -- requests --------------------------------------------------------------------------

    def _repeated(
        self,
        context: RequestContext,
        function: Callable[[Any], _T],
        missing: exception.NotFound | None = None,
    ) -> _T:
        """For requests that do no more when they are sent twice."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            wait=tenacity.wait_exponential(multiplier=_RETRY_SECONDS, max=_MAX_RETRY_SECONDS),
            retry=tenacity.retry_if_exception_type(exception.VolumeServiceUnavailable),
            before_sleep=_log_retry,
            reraise=True,
        )
        result: _T = retrying(self._once, context, function, missing)
        return result

    def _once(
        self,
        context: RequestContext,
        function: Callable[[Any], _T],
        missing: exception.NotFound | None = None,
        seconds: float | None = None,
    ) -> _T:
        connection = self._connector.connect(context, seconds)
        # After a 401, the identity service is asked for another token within the request.
        with identity.translated(), _translated(connection.endpoint, missing):
            return function(connection.client)


def _volume(found: Any) -> Volume:
    attachments = getattr(found, "attachments", None) or []
    properties: Mapping[str, Any] = getattr(found, "volume_image_metadata", None) or {}
    return Volume(
        id=str(found.id),
        size=int(found.size),
        status=str(found.status),
        description=getattr(found, "description", None),
        attached_to=tuple(str(each["server_id"]) for each in attachments if each.get("server_id")),
        image_properties={key: str(value) for key, value in properties.items()},
    )


def _snapshot(found: Any) -> Snapshot:
    metadata: Mapping[str, str] = getattr(found, "metadata", None) or {}
    return Snapshot(
        id=str(found.id),
        volume_id=str(found.volume_id),
        status=str(found.status),
        image_id=metadata.get(IMAGE_KEY),
    )


@contextlib.contextmanager
def _translated(endpoint: str, missing: exception.NotFound | None) -> Iterator[None]:
    """cinderclient's errors, as ours."""
    try:
        yield
    except identity.UNREACHABLE as error:
        raise exception.VolumeServiceUnavailable(endpoint=endpoint, reason=str(error)) from error
    except cinder_exceptions.ClientException as error:
        raise _from_http(error, endpoint, missing) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{endpoint} sent what is no answer of a volume service: {error!r}"
        raise exception.VolumeServiceError(reason=reason) from error


def _from_http(
    error: cinder_exceptions.ClientException, endpoint: str, missing: exception.NotFound | None
) -> exception.NovaSnapError:
    reason = str(error.message or error)
    if error.code in _UNAVAILABLE:
        return exception.VolumeServiceUnavailable(endpoint=endpoint, reason=reason)
    if error.code == 401:
        return exception.VolumeForbidden(reason="it does not know the token (401)")
    if error.code == 403:
        return exception.VolumeForbidden(reason=reason)
    if error.code == 404 and missing is not None:
        return missing
    if error.code == 400:
        return exception.InvalidVolume(reason=reason)
    if error.code == 413:
        return exception.VolumeQuotaExceeded(reason=reason)
    return exception.VolumeServiceError(reason=f"{reason} ({error.code}, {endpoint})")


def _log_retry(state: tenacity.RetryCallState) -> None:
    outcome = state.outcome
    LOG.warning(
        "Try %d at the volume service failed, the next in %.1f s: %s",
        state.attempt_number,
        state.next_action.sleep if state.next_action else 0,
        outcome.exception() if outcome else None,
    )
