# SPDX-License-Identifier: Apache-2.0
"""An instance, and the compare-and-swap that every change of its state goes through."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import power_state, transitions, vm_states
from nova_snap.context import RequestContext
from nova_snap.db import models, queries
from nova_snap.db.queries import InstanceFilters
from nova_snap.db.session import retry_on_deadlock, retry_on_failover

__all__ = ["Flavor", "Instance", "InstanceFilters", "InstanceList"]

IMAGE_PREFIX: Final = "image_"
"""system_metadata keeps the properties of the instance's image under this prefix, as Nova does."""

UNSET: Final = object()


@dataclasses.dataclass
class Flavor:
    """What the instance was sized by. ``swap`` is in MiB."""

    name: str
    vcpus: int
    memory_mb: int
    root_gb: int = 0
    ephemeral_gb: int = 0
    swap: int = 0
    flavorid: str | None = None
    extra_specs: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Instance:
    """A guest that the service knows.

    Attributes are set freely; :meth:`save` writes what was changed.

    :ivar name: the libvirt domain's name; ``display_name`` is what the user sees.
    :ivar metadata: the user's own; ``system_metadata`` is the service's.
    :ivar reservation_id: names the request that made it; ``None`` for an adopted one.
    :ivar launch_index: its place among those that the same request made.
    :ivar snapshot_image_id: the image that the snapshot that runs, or waits, is for.
    :ivar cleanup_pending: it was deleted while its host could not be asked to remove the guest.
    :ivar snapshot_bytes_done: how much of its data was sent, of ``snapshot_bytes_total``;
        ``None`` before that is known.
    """

    uuid: str
    name: str
    display_name: str
    project_id: str
    user_id: str
    flavor: Flavor
    host: str | None = None
    display_description: str | None = None
    hostname: str | None = None
    availability_zone: str | None = None
    image_ref: str | None = None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    os_type: str | None = None
    architecture: str | None = None
    root_device_name: str | None = None
    reservation_id: str | None = None
    launch_index: int = 0
    key_name: str | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    auto_disk_config: bool = False
    vm_state: str = vm_states.ACTIVE
    task_state: str | None = None
    power_state: int = power_state.NOSTATE
    snapshot_image_id: str | None = None
    snapshot_bytes_done: int | None = None
    snapshot_bytes_total: int | None = None
    launched_at: datetime.datetime | None = None
    terminated_at: datetime.datetime | None = None
    deleted_at: datetime.datetime | None = None
    deleted: bool = False
    cleanup_pending: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    system_metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None
    _context: RequestContext | None = dataclasses.field(default=None, repr=False, compare=False)
    _saved: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    # -- finding ---------------------------------------------------------------------------

    @classmethod
    def get_by_uuid(
        cls, context: RequestContext, uuid: str, *, read_deleted: bool = False
    ) -> Instance:
        """The instance, if the context may see it: its own project's, or any for an admin.

        :param read_deleted: also one that was deleted, if there is no other of that uuid.
        :raises nova_snap.exception.InstanceNotFound: if there is none, or it is not for it to see.
        """
        project_id = None if context.is_admin else context.project_id or ""
        with context.db.reader() as session:
            row = queries.instance_get(session, uuid, project_id)
            if row is None and read_deleted:
                row = queries.instance_get_any(session, uuid)
            if row is None or project_id not in (None, row.project_id):
                raise exception.InstanceNotFound(instance_id=uuid)
            return cls._from_row(context, row)

    @property
    def is_adopted(self) -> bool:
        """Whether somebody else has made the guest, and may switch it without asking."""
        return self.reservation_id is None

    @property
    def image_properties(self) -> Mapping[str, str]:
        """Properties of the image that the instance was made from, without Nova's prefix."""
        return {
            key.removeprefix(IMAGE_PREFIX): value
            for key, value in self.system_metadata.items()
            if key.startswith(IMAGE_PREFIX)
        }

    @property
    def snapshot_progress(self) -> int | None:
        """How far the snapshot's upload is, in percent; ``None`` where none runs."""
        if self.snapshot_bytes_done is None or not self.snapshot_bytes_total:
            return None
        return min(100, self.snapshot_bytes_done * 100 // self.snapshot_bytes_total)

    # -- writing ---------------------------------------------------------------------------

    @retry_on_deadlock
    def create(self, context: RequestContext, name_template: str | None = None) -> None:
        """Add the instance to the database.

        :param name_template: makes its name, of the row's number (``%d``, ``%08x``) or of
            ``%(uuid)s``.
        """
        self._context = context
        with context.db.writer() as session:
            row = models.Instance(**self._values())
            session.add(row)
            session.flush()
            if name_template is not None:
                by_uuid = {"uuid": self.uuid}
                row.name = name_template % (by_uuid if "%(" in name_template else row.id)
                session.flush()
            self._load(row)

    def save(self, expected_task_state: object = UNSET, expected_image_id: object = UNSET) -> None:
        """Write what was changed since the instance was read.

        :param expected_task_state: a state, or a list of states, ``None`` being one: the row is
            changed only if it is in one of them, in one SQL statement.
        :param expected_image_id: the same of snapshot_image_id: a task_state says what is being
            done, but not for whom.
        :raises nova_snap.exception.UnexpectedTaskState: if it is in another one;
            :class:`nova_snap.exception.SnapshotReplaced`, if it is only for another image.
        :raises nova_snap.exception.InstanceNotFound: if it was deleted meanwhile.
        :raises nova_snap.exception.InvalidTransition: if the step is not in the table.
        """
        context = self._bound()
        values = self._values()
        changes = {key: value for key, value in values.items() if value != self._saved[key]}
        expected: dict[str, Sequence[str | None]] = {}
        states = _as_states(expected_task_state)
        if "task_state" in changes:
            transitions.check(states or (self._saved["task_state"],), self.task_state)
        if states is not None:
            expected["task_state"] = states
        if expected_image_id is not UNSET:
            expected["snapshot_image_id"] = [
                None if expected_image_id is None else str(expected_image_id)
            ]
        # Said even if they are unchanged in memory: the row may have moved on.
        changes.update({name: values[name] for name in expected})
        if not changes:
            return
        self._write(context, changes, expected, _Tries())
        self._saved.update(changes)

    @retry_on_failover
    def _write(
        self,
        context: RequestContext,
        changes: Mapping[str, Any],
        expected: Mapping[str, Sequence[str | None]],
        tries: _Tries,
    ) -> None:
        changed = False
        try:
            with context.db.writer() as session:
                changed = queries.instance_update(session, self.uuid, changes, expected)
                if not changed:
                    self._explain(session, changes, expected, tries)
        except db_exception.DBConnectionError:
            # Only a commit may be done whose answer is lost. A deadlock's loser, or a statement
            # that was not answered, has changed nothing.
            tries.maybe_done = tries.maybe_done or changed
            raise

    def _explain(
        self,
        session: Any,
        changes: Mapping[str, Any],
        expected: Mapping[str, Sequence[str | None]],
        tries: _Tries,
    ) -> None:
        """Why no row was changed; nothing, if that is because a try before has done it."""
        row = queries.instance_get(session, self.uuid)
        if row is None:
            raise exception.InstanceNotFound(instance_id=self.uuid)
        if tries.maybe_done and all(getattr(row, key) == value for key, value in changes.items()):
            return
        states = list(expected.get("task_state", ()))
        images = expected.get("snapshot_image_id", [row.snapshot_image_id])
        error = exception.UnexpectedTaskState
        replaced = row.snapshot_image_id not in images
        if replaced and (not states or row.task_state in (*states, None)):
            error = exception.SnapshotReplaced
        raise error(
            instance_uuid=self.uuid,
            expected=states,
            actual=row.task_state,
            image_id=row.snapshot_image_id,
        )

    @staticmethod
    @retry_on_deadlock
    def report_progress(
        context: RequestContext, uuid: str, image_id: str, done: int, total: int
    ) -> None:
        """Say how far the snapshot for ``image_id`` is; nothing, if another one runs by now.

        :param done: bytes sent. :param total: bytes to send.
        """
        with context.db.writer() as session:
            queries.instance_report_progress(session, uuid, image_id, done, total)

    def end_snapshot(self) -> None:
        """Clear all that belongs to the snapshot that ran, for :meth:`save` to write."""
        self.task_state = None
        self.snapshot_image_id = None
        self.snapshot_bytes_done = None
        self.snapshot_bytes_total = None

    def refresh(self) -> None:
        """Read the instance again; unsaved changes are lost.

        :raises nova_snap.exception.InstanceNotFound: if it was deleted meanwhile.
        """
        with self._bound().db.reader() as session:
            row = queries.instance_get(session, self.uuid)
            if row is None:
                raise exception.InstanceNotFound(instance_id=self.uuid)
            self._load(row)

    @retry_on_deadlock
    def destroy(self, *, cleanup_pending: bool = False) -> None:
        """Delete the instance from the database; the guest is not touched.

        :param cleanup_pending: its host has yet to remove the guest.
        :raises nova_snap.exception.InstanceNotFound: if it was deleted meanwhile.
        """
        with self._bound().db.writer() as session:
            if not queries.instance_soft_delete(session, self.uuid, cleanup_pending):
                raise exception.InstanceNotFound(instance_id=self.uuid)
        self.deleted = True
        self.cleanup_pending = cleanup_pending

    @retry_on_deadlock
    def cleaned_up(self) -> None:
        """Record that nothing is left on the host of an instance that was deleted."""
        with self._bound().db.writer() as session:
            queries.instance_cleaned_up(session, self.uuid)
        self.cleanup_pending = False

    # -- to and from the row ---------------------------------------------------------------

    def _bound(self) -> RequestContext:
        if self._context is None:
            raise RuntimeError(f"instance {self.uuid} was neither read nor created")
        return self._context

    def _values(self) -> dict[str, Any]:
        """The columns that a caller may set."""
        values = {name: getattr(self, name) for name in _COLUMNS}
        values["flavor"] = dataclasses.asdict(self.flavor)
        values["vcpus"] = self.flavor.vcpus
        values["memory_mb"] = self.flavor.memory_mb
        values["meta"] = dict(self.metadata)
        values["system_metadata"] = dict(self.system_metadata)
        return values

    @classmethod
    def _from_row(cls, context: RequestContext, row: models.Instance) -> Instance:
        made = cls(
            uuid=row.uuid,
            name=row.name,
            display_name=row.display_name,
            project_id=row.project_id,
            user_id=row.user_id,
            flavor=Flavor(**row.flavor),
            _context=context,
        )
        made._load(row)
        return made

    def _load(self, row: models.Instance) -> None:
        for name in (*_COLUMNS, *_READ_ONLY):
            setattr(self, name, getattr(row, name))
        self.flavor = Flavor(**row.flavor)
        self.metadata = dict(row.meta)
        self.system_metadata = dict(row.system_metadata)
        self.deleted = bool(row.deleted)
        self._saved = self._values()


_COLUMNS: Final = (
    "uuid",
    "name",
    "display_name",
    "display_description",
    "hostname",
    "project_id",
    "user_id",
    "host",
    "availability_zone",
    "image_ref",
    "kernel_id",
    "ramdisk_id",
    "os_type",
    "architecture",
    "root_device_name",
    "reservation_id",
    "launch_index",
    "key_name",
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "vm_state",
    "task_state",
    "power_state",
    "snapshot_image_id",
    "snapshot_bytes_done",
    "snapshot_bytes_total",
    "launched_at",
    "terminated_at",
)

_READ_ONLY: Final = ("cleanup_pending", "deleted_at", "created_at", "updated_at")


class InstanceList:
    """Finding several at once."""

    @staticmethod
    def get_by_filters(
        context: RequestContext,
        filters: InstanceFilters,
        *,
        limit: int | None = None,
        marker: str | None = None,
        sort: Sequence[tuple[str, str]] = (("created_at", "desc"),),
    ) -> list[Instance]:
        """A page of instances.

        :param filters: whoever is no admin must name his own project in it.
        :param marker: uuid of the last instance of the page before.
        :param sort: pairs of a column's name and ``asc`` or ``desc``.
        :raises nova_snap.exception.MarkerNotFound: if there is no such instance.
        :raises nova_snap.exception.InvalidFilter: if the database refuses the name's expression.
        """
        with context.db.reader() as session:
            last = None
            if marker is not None:
                last = queries.instance_get_any(session, marker)
                if last is None or filters.project_id not in (None, last.project_id):
                    raise exception.MarkerNotFound(marker=marker)
            try:
                rows = queries.instance_list(session, filters, limit, last, sort)
            except queries.BadExpression as error:
                raise exception.InvalidFilter(
                    name="name", value=filters.name or "", reason=str(error)
                ) from error
            return [Instance._from_row(context, row) for row in rows]


@dataclasses.dataclass
class _Tries:
    """:ivar maybe_done: one of those before may have been done, and only its answer was lost."""

    maybe_done: bool = False


def _as_states(expected: object) -> tuple[str | None, ...] | None:
    if expected is UNSET:
        return None
    if expected is None or isinstance(expected, str):
        return (expected,)
    if isinstance(expected, list | tuple):
        return tuple(expected)
    raise TypeError(f"expected_task_state must be a state or a list of states, not {expected!r}")
