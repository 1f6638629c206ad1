# SPDX-License-Identifier: Apache-2.0
"""A compute host that listens for messages."""

import time
from concurrent import futures
from typing import Final

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from oslo_messaging.rpc import dispatcher

from nova_snap.compute import rpc
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.host_lock import HostLock
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.volume_manager import VolumeManager

LOG = log.getLogger(__name__)

# What was taken from the queue before the stop needs milliseconds.
_LISTEN_SECONDS: Final = 10.0


class ComputeService:
    """The managers and the server that hands messages to them."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: oslo_messaging.Transport,
        manager: ComputeManager,
        lifecycle: LifecycleManager,
        heartbeat: Heartbeat,
        volumes: VolumeManager,
    ) -> None:
        self._conf = conf
        self._manager = manager
        self._lifecycle = lifecycle
        self._heartbeat = heartbeat
        self._volumes = volumes
        self._lock = HostLock(conf.state_path, manager.host)
        self._server = oslo_messaging.get_rpc_server(
            transport,
            rpc.target(conf, server=manager.host),
            [manager, lifecycle, volumes],
            serializer=rpc.RequestContextSerializer(),
            access_policy=dispatcher.ExplicitRPCAccessPolicy,
        )

    def start(self) -> None:
        """Make the host ready, then listen.

        :raises nova_snap.exception.HypervisorUnavailable: if the hypervisor does not answer.
        :raises nova_snap.exception.HostTaken: if another service does this host's work.
        :raises OSError: if state_path cannot be used.
        """
        # Before anything is put right: what another one does would look as if it was cut off.
        self._lock.take()
        # First: what it puts right looks like other snapshots that were cut off.
        self._volumes.init_host()
        self._manager.init_host()
        self._lifecycle.init_host()
        self._server.start()
        # Only who listens is there.
        self._heartbeat.start()
        LOG.info(
            "Compute host %s listens on topic %s", self._manager.host, self._conf.rpc.compute_topic
        )

    def stop(self, timeout: float | None = None) -> int:
        """Listen no more, put off what has not begun, and let end what runs.

        :param timeout: seconds that it may take, of graceful_shutdown_timeout; all if it is None.
        :returns: how many snapshots and other tasks still run.
        """
        if timeout is None:
            timeout = self._conf.graceful_shutdown_timeout
        # Not its end yet: others would take what runs for lost, and end it.
        self._heartbeat.drain()
        try:
            left = self._let_end(timeout)
        finally:
            self._heartbeat.stop()
        if not left:
            self._lock.release()
        return left

    def _let_end(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        try:
            rpc.within(_LISTEN_SECONDS, self._listen_no_more)
        except futures.TimeoutError:
            LOG.warning("The queue is not left after %g s: the broker may hang", _LISTEN_SECONDS)
        self._volumes.stop()
        self._manager.park()
        left = self._lifecycle.stop(max(0.0, until - time.monotonic()))
        return left + self._manager.stop(max(0.0, until - time.monotonic()))

    def _listen_no_more(self) -> None:
        """Until a broker that hangs is back, and what it has passed on is done."""
        self._server.stop()
        self._server.wait()
