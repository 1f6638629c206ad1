# SPDX-License-Identifier: Apache-2.0
"""The tables."""

import datetime
from typing import Any

import sqlalchemy as sa
from oslo_utils import timeutils
from sqlalchemy import orm
from sqlalchemy.dialects import mysql

# MySQL's DATETIME has whole seconds unless told otherwise; events of one snapshot are closer.
DateTime = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
# MySQL's TEXT ends at 64 KiB, which a traceback may reach.
LongText = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


class Base(orm.DeclarativeBase):
    """Names of constraints are fixed, so that a migration can drop what it did not make."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __table_args__: Any = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}  # noqa: RUF012


class Timestamps:
    """When a row was made and last changed, in UTC."""

    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(
        DateTime, default=timeutils.utcnow
    )
    updated_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(
        DateTime, onupdate=timeutils.utcnow
    )


class Instance(Timestamps, Base):
    """A guest that the service knows. A deleted one keeps its row: ``deleted`` is its ``id``."""

    __tablename__ = "instances"
    __table_args__ = (
        sa.UniqueConstraint("uuid", "deleted"),
        sa.Index("ix_instances_host_deleted", "host", "deleted"),
        sa.Index("ix_instances_project_id_deleted", "project_id", "deleted"),
        Base.__table_args__,
    )

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    uuid: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    display_name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    display_description: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    hostname: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    user_id: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    host: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    availability_zone: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    image_ref: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    kernel_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    ramdisk_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    os_type: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    architecture: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    root_device_name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    reservation_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    launch_index: orm.Mapped[int] = orm.mapped_column(default=0, server_default="0")
    key_name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    access_ip_v4: orm.Mapped[str | None] = orm.mapped_column(sa.String(39))
    access_ip_v6: orm.Mapped[str | None] = orm.mapped_column(sa.String(39))
    auto_disk_config: orm.Mapped[bool] = orm.mapped_column(default=False, server_default=sa.false())
    flavor: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)
    # The flavor's, once more, for sums over many instances.
    vcpus: orm.Mapped[int] = orm.mapped_column(default=0, server_default="0")
    memory_mb: orm.Mapped[int] = orm.mapped_column(default=0, server_default="0")
    vm_state: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    task_state: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    power_state: orm.Mapped[int] = orm.mapped_column()
    snapshot_image_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(36))
    snapshot_bytes_done: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    snapshot_bytes_total: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    launched_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)
    terminated_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)
    deleted_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)
    deleted: orm.Mapped[int] = orm.mapped_column(default=0)
    # Deleted while its host could not be asked: the host has to remove the guest.
    cleanup_pending: orm.Mapped[bool] = orm.mapped_column(default=False, server_default=sa.false())
    meta: orm.Mapped[dict[str, str]] = orm.mapped_column("metadata", sa.JSON)
    system_metadata: orm.Mapped[dict[str, str]] = orm.mapped_column(sa.JSON)


class BlockDeviceMapping(Timestamps, Base):
    """A disk of an instance, as Nova tells of it."""

    __tablename__ = "block_device_mapping"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    instance_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("instances.id"), index=True)
    source_type: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    destination_type: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    device_type: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    disk_bus: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    device_name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    boot_index: orm.Mapped[int | None] = orm.mapped_column()
    guest_format: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    image_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(36))
    volume_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(36))
    volume_size: orm.Mapped[int | None] = orm.mapped_column()
    delete_on_termination: orm.Mapped[bool] = orm.mapped_column(default=False)


class Flavor(Timestamps, Base):
    """A size that instances may have."""

    __tablename__ = "flavors"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    flavorid: orm.Mapped[str] = orm.mapped_column(sa.String(255), unique=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255), unique=True)
    memory_mb: orm.Mapped[int] = orm.mapped_column()
    vcpus: orm.Mapped[int] = orm.mapped_column()
    root_gb: orm.Mapped[int] = orm.mapped_column()
    ephemeral_gb: orm.Mapped[int] = orm.mapped_column()
    swap: orm.Mapped[int] = orm.mapped_column()
    rxtx_factor: orm.Mapped[float] = orm.mapped_column(sa.Double)
    is_public: orm.Mapped[bool] = orm.mapped_column()
    disabled: orm.Mapped[bool] = orm.mapped_column()
    description: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    extra_specs: orm.Mapped[dict[str, str]] = orm.mapped_column(sa.JSON)


class InstanceAction(Timestamps, Base):
    """Something that a user asked for."""

    __tablename__ = "instance_actions"
    __table_args__ = (
        sa.Index("ix_instance_actions_instance_uuid_request_id", "instance_uuid", "request_id"),
        Base.__table_args__,
    )

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    instance_uuid: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    action: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    request_id: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    user_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    project_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    start_time: orm.Mapped[datetime.datetime] = orm.mapped_column(DateTime)
    finish_time: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)
    message: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))


class InstanceActionEvent(Timestamps, Base):
    """One step of an action, on one host."""

    __tablename__ = "instance_actions_events"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    action_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("instance_actions.id"), index=True)
    event: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    host: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    start_time: orm.Mapped[datetime.datetime] = orm.mapped_column(DateTime)
    finish_time: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)
    result: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    details: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    traceback: orm.Mapped[str | None] = orm.mapped_column(LongText)


class InstanceFault(Timestamps, Base):
    """Why something failed, in words for the user and with details for the operator."""

    __tablename__ = "instance_faults"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    instance_uuid: orm.Mapped[str] = orm.mapped_column(sa.String(36), index=True)
    code: orm.Mapped[int] = orm.mapped_column()
    message: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    details: orm.Mapped[str | None] = orm.mapped_column(LongText)
    host: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))


class Service(Timestamps, Base):
    """A process that tells every few seconds that it is there."""

    __tablename__ = "services"
    __table_args__ = (sa.UniqueConstraint("host", "binary"), Base.__table_args__)

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    uuid: orm.Mapped[str] = orm.mapped_column(sa.String(36), unique=True)
    host: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    binary: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    topic: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    report_count: orm.Mapped[int] = orm.mapped_column(default=0)
    last_seen_up: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)
    disabled: orm.Mapped[bool] = orm.mapped_column(default=False)
    disabled_reason: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    forced_down: orm.Mapped[bool] = orm.mapped_column(default=False)
    version: orm.Mapped[int] = orm.mapped_column(default=0)


class ComputeNode(Timestamps, Base):
    """The hypervisor of a compute service, as its driver last described it."""

    __tablename__ = "compute_nodes"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    uuid: orm.Mapped[str] = orm.mapped_column(sa.String(36), unique=True)
    service_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("services.id", ondelete="CASCADE"), unique=True
    )
    resources: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)


class SnapshotRequest(Timestamps, Base):
    """A snapshot from before its image is made until it has ended and nothing is left of it."""

    __tablename__ = "snapshot_requests"
    __table_args__ = (
        sa.Index("ix_snapshot_requests_phase_since", "phase_since"),
        Base.__table_args__,
    )

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    image_id: orm.Mapped[str] = orm.mapped_column(sa.String(36), unique=True)
    instance_uuid: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    host: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    action: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    phase: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    phase_since: orm.Mapped[datetime.datetime] = orm.mapped_column(DateTime)
    # The action's.
    request_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    # Whoever puts right what is left of it has it for himself until then.
    reaped_until: orm.Mapped[datetime.datetime | None] = orm.mapped_column(DateTime)


class SnapshotTotal(Base):
    """How many snapshots of a host have ended in one way, and what they took together."""

    __tablename__ = "snapshot_totals"
    __table_args__ = (
        sa.UniqueConstraint("host", "action", "method", "outcome"),
        Base.__table_args__,
    )

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    host: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    action: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    method: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    outcome: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    count: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    seconds: orm.Mapped[float] = orm.mapped_column(sa.Double)
    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
