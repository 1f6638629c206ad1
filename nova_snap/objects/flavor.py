# SPDX-License-Identifier: Apache-2.0
"""The sizes that a server may be asked for in."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.db import flavor_queries, models
from nova_snap.db.flavor_queries import FlavorFilters
from nova_snap.db.session import retry_on_deadlock
from nova_snap.objects import instance


@dataclasses.dataclass
class Flavor:
    """A size; an instance keeps a copy, so that the flavor may be deleted.

    :ivar flavorid: what clients name it by.
    :ivar memory_mb: MiB. ``swap`` is in MiB too.
    :ivar root_gb: GiB; 0 is as large as the image.
    :ivar is_public: everybody may see and use it, else only administrators.
    """

    flavorid: str
    name: str
    memory_mb: int
    vcpus: int
    root_gb: int = 0
    ephemeral_gb: int = 0
    swap: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = dataclasses.field(default_factory=dict)
    created_at: datetime.datetime | None = None

    @classmethod
    def get_by_flavor_id(cls, context: RequestContext, flavorid: str) -> Flavor:
        """The flavor, if the context may see it.

        :raises nova_snap.exception.FlavorNotFound: if there is none, or it is not for it to see.
        """
        with context.db.reader() as session:
            row = flavor_queries.flavor_get(session, flavorid=flavorid)
            if row is None or not (row.is_public or context.is_admin):
                raise exception.FlavorNotFound(flavor_id=flavorid)
            return cls._from_row(row)

    @retry_on_deadlock
    def create(self, context: RequestContext) -> None:
        """Add it to the database.

        :raises nova_snap.exception.FlavorIdExists: if another one has its flavorid.
        :raises nova_snap.exception.FlavorExists: if another one has its name.
        """
        values = dataclasses.asdict(self)
        del values["created_at"]
        try:
            with context.db.writer() as session:
                row = models.Flavor(**values)
                session.add(row)
                session.flush()
                self.created_at = row.created_at
        except flavor_queries.Duplicate:
            self._refuse(context)
            raise

    def describe(self, context: RequestContext, description: str | None) -> None:
        """Set the description.

        :raises nova_snap.exception.FlavorNotFound: if it was deleted meanwhile.
        """

        def change(row: models.Flavor) -> None:
            row.description = description

        self._change(context, change)

    def set_extra_specs(self, context: RequestContext, specs: Mapping[str, str]) -> None:
        """Add these to its extra specs; those with the same key are replaced.

        :raises nova_snap.exception.FlavorNotFound: if it was deleted meanwhile.
        """

        def change(row: models.Flavor) -> None:
            row.extra_specs = {**row.extra_specs, **specs}

        self._change(context, change)

    def delete_extra_spec(self, context: RequestContext, key: str) -> None:
        """Take one away.

        :raises nova_snap.exception.FlavorExtraSpecNotFound: if it has none with this key.
        :raises nova_snap.exception.FlavorNotFound: if it was deleted meanwhile.
        """

        def change(row: models.Flavor) -> None:
            if key not in row.extra_specs:
                raise exception.FlavorExtraSpecNotFound(flavor_id=self.flavorid, key=key)
            row.extra_specs = {
                name: row.extra_specs[name] for name in row.extra_specs if name != key
            }

        self._change(context, change)

    @retry_on_deadlock
    def _change(self, context: RequestContext, change: Callable[[models.Flavor], None]) -> None:
        """Change the row as it is now, so that no change of another request is lost."""
        with context.db.writer() as session:
            row = flavor_queries.flavor_lock(session, self.flavorid)
            if row is None:
                raise exception.FlavorNotFound(flavor_id=self.flavorid)
            change(row)
            session.flush()
            self.description = row.description
            self.extra_specs = dict(row.extra_specs)

    @retry_on_deadlock
    def destroy(self, context: RequestContext) -> None:
        """Delete it; instances that were made of it stay as they are.

        :raises nova_snap.exception.FlavorNotFound: if it was deleted meanwhile.
        """
        with context.db.writer() as session:
            if not flavor_queries.flavor_delete(session, self.flavorid):
                raise exception.FlavorNotFound(flavor_id=self.flavorid)

    def for_instance(self) -> instance.Flavor:
        """The copy that an instance keeps."""
        return instance.Flavor(
            name=self.name,
            vcpus=self.vcpus,
            memory_mb=self.memory_mb,
            root_gb=self.root_gb,
            ephemeral_gb=self.ephemeral_gb,
            swap=self.swap,
            flavorid=self.flavorid,
            extra_specs=dict(self.extra_specs),
        )

    def _refuse(self, context: RequestContext) -> None:
        """Say which of the two names is taken."""
        with context.db.reader() as session:
            if flavor_queries.flavor_get(session, flavorid=self.flavorid) is not None:
                raise exception.FlavorIdExists(flavor_id=self.flavorid)
            if flavor_queries.flavor_get(session, name=self.name) is not None:
                raise exception.FlavorExists(name=self.name)

    @classmethod
    def _from_row(cls, row: models.Flavor) -> Flavor:
        return cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})


class FlavorList:
    """Finding several at once."""

    @staticmethod
    def get_all(
        context: RequestContext,
        *,
        is_public: bool | None = True,
        min_memory_mb: int | None = None,
        min_root_gb: int | None = None,
        limit: int | None = None,
        marker: str | None = None,
        sort: Sequence[tuple[str, str]] = (("flavorid", "asc"),),
    ) -> list[Flavor]:
        """A page of flavors.

        :param is_public: ``None`` for both kinds; whoever is no administrator gets the public
            ones, whatever he asks for.
        :param marker: flavorid of the last one of the page before.
        :param sort: pairs of a column's name and ``asc`` or ``desc``.
        :raises nova_snap.exception.MarkerNotFound: if there is no such flavor.
        """
        filters = FlavorFilters(
            is_public=is_public if context.is_admin else True,
            min_memory_mb=min_memory_mb,
            min_root_gb=min_root_gb,
        )
        with context.db.reader() as session:
            last = None
            if marker is not None:
                last = flavor_queries.flavor_get(session, flavorid=marker)
                if last is None or not (last.is_public or context.is_admin):
                    raise exception.MarkerNotFound(marker=marker)
            rows = flavor_queries.flavor_list(session, filters, limit, last, sort)
            return [Flavor._from_row(row) for row in rows]
