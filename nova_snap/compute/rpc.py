# SPDX-License-Identifier: Apache-2.0
"""What both ends of a message share: the transport, the target, how a context travels."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Final

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.context import RequestContext

VERSION: Final = "1.2"
"""Version of the compute service's methods.

1.0 - snapshot_instance(instance, image_id): ``instance`` is a uuid or a serialised Instance,
``image_id`` names an image in status queued.
1.1 - backup_instance(instance, image_id, backup_type, rotation).
build_instance(instance, network), terminate_instance(instance), start_instance(instance), and so
stop, pause, unpause, suspend, resume and reboot: the instance's task_state says that it is wanted,
and a message that it does not announce is not obeyed.
get_console_output(instance, length): answers ``{"output": text or None, "reason": why not}``.
1.2 - quiesce_instance(instance, image_id): answers ``{"unsupported": bool, "reason": text or
None}``; unquiesce_instance(instance, image_id): answers ``{"reason": text or None}``. ``image_id``
is the snapshot that the instance is claimed for; None as reason is success.
"""


LOG = log.getLogger(__name__)

_CLOSE_SECONDS: Final = 5.0


class BadTransportURL(exception.NovaSnapError):
    """What the library says of it is not passed on: that may be a part of the password."""

    msg = (
        "[DEFAULT] transport_url cannot be read. In its user and password, what means something in "
        "a URL is written as its code: %23 for #, %2F for /, %3F for ?, %40 for @, %5B for [."
    )


class RequestContextSerializer(oslo_messaging.NoOpSerializer):  # type: ignore[misc]
    """Contexts travel as dictionaries; arguments are JSON already and stay as they are."""

    def serialize_context(self, context: RequestContext) -> dict[str, Any]:
        """The context without this process's database."""
        return context.to_dict()

    def deserialize_context(self, context: dict[str, Any]) -> RequestContext:
        """A context without a database: whoever receives it sets its own."""
        return RequestContext.from_dict(context)


def get_transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """The transport that ``[DEFAULT] transport_url`` names.

    :raises BadTransportURL:
    """
    try:
        return oslo_messaging.get_rpc_transport(conf)
    except (ValueError, oslo_messaging.InvalidTransportURL):
        raise BadTransportURL() from None


def close(transport: oslo_messaging.Transport) -> None:
    """Close its connections, or leave that to the end of the process: a thread that waits for a
    broker that is down keeps it from being done, and so may what a broker says that is just back:
    that nobody listens for a message that was given up long ago, for example."""
    try:
        within(_CLOSE_SECONDS, transport.cleanup)
    except futures.TimeoutError:
        LOG.warning("The connections to the broker cannot be closed; it may be down")
    except Exception as error:
        LOG.warning("Closing the connections to the broker: %r", error)


class TooManyCalls(Exception):
    """So many calls hang that another one would, too."""


class Calls:
    """Makes calls that are left behind if they hang.

    Each that is keeps a thread until the broker is back: there must not be more of them with every
    request. Calls that end in time are not counted, however slow they are.

    :param most: how many may hang at the same time; ``None`` for any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._left: set[futures.Future[Any]] = set()

    def within(self, seconds: float, call: Callable[[], Any]) -> Any:
        """Call, and be back after that at the latest: where the library waits for a broker that is
        down or hangs, it does so for as long as that takes, and heeds no timeout.

        :raises concurrent.futures.TimeoutError: if it is not back; its thread is when the broker
            is, or ends with the process.
        :raises TooManyCalls: at once, if there are too many such threads.
        """
        with self._lock:
            if self._most is not None and len(self._left) >= self._most:
                raise TooManyCalls(f"{len(self._left)} calls have not come back")
        answer: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=run, name="rpc-call", daemon=True).start()
        try:
            return answer.result(seconds)
        except futures.TimeoutError:
            with self._lock:
                self._left.add(answer)
            # At once, if it is just back.
            answer.add_done_callback(self._is_back)
            raise

    def _is_back(self, answer: futures.Future[Any]) -> None:
        with self._lock:
            self._left.discard(answer)


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """See :meth:`Calls.within`; for a process that ends."""
    return Calls().within(seconds, call)


def target(conf: cfg.ConfigOpts, server: str | None = None) -> oslo_messaging.Target:
    """The compute service of any host, or of the host ``server``."""
    return oslo_messaging.Target(topic=conf.rpc.compute_topic, version=VERSION, server=server)
