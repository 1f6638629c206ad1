# SPDX-License-Identifier: Apache-2.0
"""What becomes of requests that still wait when the service is stopped.

They go back to where they came from: into the host's own queue at the broker, with the token of
whoever asked, and run after the next start. Where messages do not outlive the process, they end
with a reason.
"""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import rpc, snapshot_kinds, task_states
from nova_snap.compute.rpcapi import ComputeAPI
from nova_snap.compute.snapshots import Request
from nova_snap.objects import snapshot_request
from nova_snap.objects.snapshot_request import SnapshotRequest

LOG = log.getLogger(__name__)


class Parking:
    """Of one host.

    :param compute_rpcapi: sends messages to it; ``None`` where they would die with the process.
    :param fail: ends a request with a reason.
    """

    def __init__(
        self,
        host: str,
        compute_rpcapi: ComputeAPI | None,
        fail: Callable[[Request, Exception], None],
    ) -> None:
        self._host = host
        self._compute_rpcapi = compute_rpcapi
        self._fail = fail

    def park(self, requests: Sequence[Request], timeout: float) -> None:
        """Put off what can be put off, and end the rest.

        :param timeout: seconds; what is left then is ended by the next start.
        """
        until = time.monotonic() + timeout
        compute_rpcapi = self._compute_rpcapi
        for count, request in enumerate(requests):
            if time.monotonic() > until:
                left = len(requests) - count
                LOG.warning("%d requests that wait are left to the next start", left)
                return
            if compute_rpcapi is None:
                self._fail(request, exception.ServiceStopping())
            elif not self._send(compute_rpcapi, request, until - time.monotonic()):
                # The broker cannot be reached: to try it for each would take too long.
                compute_rpcapi = None

    def _send(self, compute_rpcapi: ComputeAPI, request: Request, timeout: float) -> bool:
        """Whether another message can be tried. The instance waits for this one before it is sent,
        as for one of the API's.

        :param timeout: seconds. A message that goes out later all the same is refused by the next
            start.
        """
        instance, context = request.instance, request.context
        try:
            instance.task_state = request.kind.announced
            instance.save(
                expected_task_state=[task_states.IMAGE_SNAPSHOT],
                expected_image_id=request.image_id,
            )
            SnapshotRequest.advance(
                context,
                request.image_id,
                instance.uuid,
                self._host,
                request.kind.action,
                snapshot_request.ASKED,
            )
            rpc.within(timeout, functools.partial(self._cast, compute_rpcapi, request))
        except Exception as error:
            LOG.warning("The request for image %s cannot be put off: %s", request.image_id, error)
            self._fail(request, exception.ServiceStopping())
            return not isinstance(error, (exception.MessagingUnavailable, futures.TimeoutError))
        LOG.info("The request for image %s waits for the next start", request.image_id)
        return True

    @staticmethod
    def _cast(compute_rpcapi: ComputeAPI, request: Request) -> None:
        context, instance, image_id = request.context, request.instance, request.image_id
        if request.kind is snapshot_kinds.SNAPSHOT or request.rotation is None:
            compute_rpcapi.snapshot_instance(context, instance, image_id)
            return
        rotation = request.rotation
        compute_rpcapi.backup_instance(
            context, instance, image_id, rotation.backup_type, rotation.keep
        )
