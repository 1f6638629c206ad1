# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-manage``: the database, which domains are instances, and what is under way."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg
from oslo_utils import uuidutils

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.api import microversion, openapi
from nova_snap.api.microversion import Microversion
from nova_snap.cmd import config, parts, run
from nova_snap.compute import adoption, power_state
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.image import glance
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.snapshot_request import SnapshotRequest

PROG = "nova-snap-manage"

Command = Callable[[cfg.ConfigOpts], int]


# -- db --------------------------------------------------------------------------------------


def db_sync(conf: cfg.ConfigOpts) -> int:
    """Make the tables, or bring them up to date."""
    database = Database(conf)
    migration.sync(database)
    print(f"database version {migration.current(database)}")
    return 0


def db_version(conf: cfg.ConfigOpts) -> int:
    """Show the version of the tables."""
    print(migration.current(Database(conf)) or "none: run 'nova-snap-manage db sync'")
    return 0


# -- instance --------------------------------------------------------------------------------


def instance_adopt(conf: cfg.ConfigOpts) -> int:
    """Make domains of this host instances."""
    command = conf.command
    context = nova_context.get_admin_context(Database(conf))
    image_api = glance.API(conf)
    driver = parts.driver(conf, image_api)
    owner = adoption.Owner(command.project, command.user)
    driver.init_host()
    try:
        names: Sequence[str] = driver.list_domains() if command.all else command.domain
        failed = 0
        for name in names:
            try:
                instance, new = adoption.adopt(context, driver, image_api, conf.host, name, owner)
            except exception.NovaSnapError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed += 1
            else:
                word = "adopted" if new else "adopted before"
                print(f"{instance.uuid}  {name}  {word}")
        if not names:
            print("there are no domains on this host")
    finally:
        driver.close()
    return 1 if failed else 0


def instance_list(conf: cfg.ConfigOpts) -> int:
    """Show the instances, of all hosts or of one."""
    context = nova_context.get_admin_context(Database(conf))
    row = "{:36}  {:20}  {:20}  {:32}  {:9}  {:9}  {}"
    print(row.format("uuid", "domain", "host", "project", "vm_state", "power", "task_state"))
    for instance in InstanceList.get_by_filters(
        context, InstanceFilters(host=conf.command.on_host), sort=[("name", "asc")]
    ):
        print(
            row.format(
                instance.uuid,
                instance.name,
                instance.host or "-",
                instance.project_id,
                instance.vm_state,
                power_state.NAMES.get(instance.power_state, "?"),
                instance.task_state or "-",
            )
        )
    return 0


def instance_forget(conf: cfg.ConfigOpts) -> int:
    """Make instances plain domains again: they run on, only their records end."""
    context = nova_context.get_admin_context(Database(conf))
    failed = 0
    for uuid in conf.command.uuid:
        try:
            instance = Instance.get_by_uuid(context, uuid)
            if instance.task_state is not None and not conf.command.force:
                raise exception.InstanceInvalidState(
                    instance_uuid=uuid,
                    attr="task_state",
                    state=instance.task_state,
                    method="forget",
                )
            instance.destroy()
        except exception.NovaSnapError as error:
            print(error, file=sys.stderr)
            failed += 1
        else:
            print(f"{uuid}  {instance.name}  forgotten")
    return 1 if failed else 0


# -- snapshot --------------------------------------------------------------------------------


def snapshot_list(conf: cfg.ConfigOpts) -> int:
    """Show the snapshots that are asked for, queued or running, of all hosts or of one."""
    context = nova_context.get_admin_context(Database(conf))
    row = "{:36}  {:36}  {:20}  {:12}  {:7}  {}"
    print(row.format("image", "instance", "host", "action", "phase", "since (UTC)"))
    for found in SnapshotRequest.get_all(context, conf.command.on_host):
        since = found.phase_since.isoformat(" ", "seconds")
        host = found.host or "-"
        print(
            row.format(found.image_id, found.instance_uuid, host, found.action, found.phase, since)
        )
    return 0


# -- api -------------------------------------------------------------------------------------


def api_openapi(conf: cfg.ConfigOpts) -> int:
    """Describe the API in OpenAPI 3.1, as JSON: one microversion of it."""
    json.dump(openapi.describe(conf.command.microversion), sys.stdout, indent=2)
    print()
    return 0


# -- the command line ------------------------------------------------------------------------


def _uuid(value: str) -> str:
    if not uuidutils.is_uuid_like(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a uuid")
    return value


def _microversion(value: str) -> Microversion:
    try:
        return microversion.requested({microversion.LEGACY_HEADER: value})
    except exception.NovaSnapError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_command(group: Any, name: str, function: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(
        name, help=function.__doc__, description=function.__doc__
    )
    parser.set_defaults(function=function)
    return parser


def add_parsers(subparsers: Any) -> None:
    """The commands, as argparse has them."""
    db = subparsers.add_parser("db", help="the database's tables")
    group = db.add_subparsers(dest="action", required=True)
    _add_command(group, "sync", db_sync)
    _add_command(group, "version", db_version)

    api = subparsers.add_parser("api", help="the REST API")
    group = api.add_subparsers(dest="action", required=True)
    description = _add_command(group, "openapi", api_openapi)
    description.add_argument(
        "--microversion", type=_microversion, default=microversion.MAX, metavar="2.X"
    )

    snapshot = subparsers.add_parser("snapshot", help="snapshots that have not ended")
    group = snapshot.add_subparsers(dest="action", required=True)
    listing = _add_command(group, "list", snapshot_list)
    listing.add_argument("--host", dest="on_host", metavar="HOST", help="only those of this host")

    instance = subparsers.add_parser("instance", help="which domains are instances")
    group = instance.add_subparsers(dest="action", required=True)
    adopt = _add_command(group, "adopt", instance_adopt)
    which = adopt.add_mutually_exclusive_group(required=True)
    which.add_argument("--domain", action="append", metavar="NAME", help="may be repeated")
    which.add_argument("--all", action="store_true", help="every domain of this host")
    adopt.add_argument("--project", help="project of domains whose XML names none")
    adopt.add_argument("--user", help="user of domains whose XML names none")
    listing = _add_command(group, "list", instance_list)
    listing.add_argument("--host", dest="on_host", metavar="HOST", help="only those of this host")
    forget = _add_command(group, "forget", instance_forget)
    forget.add_argument("uuid", nargs="+", type=_uuid)
    forget.add_argument("--force", action="store_true", help="even while a snapshot is being taken")


def main() -> int:
    """Run one command; 0 if all of it was done."""
    return run.guarded(_main)


def _main() -> int:
    command = cfg.SubCommandOpt("command", title="commands", handler=add_parsers)
    conf = config.load(None, PROG, cli_opts=[command])
    function: Command = conf.command.function
    return function(conf)
