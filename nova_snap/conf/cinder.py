# SPDX-License-Identifier: Apache-2.0
"""Options of the volume service."""

from typing import Any, Final

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = cfg.OptGroup("cinder", title="Volume service")

TIMEOUT: Final = 60
"""Seconds that the volume service may take to answer; keystoneauth would wait for ever."""

OPTS = [
    cfg.StrOpt(
        "catalog_info",
        default="volumev3::publicURL",
        regex=r"^[\w-]+:[^:]*:(public|internal|admin)(URL)?$",
        help="""
Where the catalog has the volume service, as <service type>:<service name>:<interface>. The name may
be empty. Change the type to block-storage where your catalog has it under that, and the interface
to internalURL where hosts shall use that.
""",
    ),
    cfg.StrOpt(
        "endpoint_template",
        help="""
URL of the volume service, instead of what the catalog says: %(project_id)s in it stands for the
project of whoever asks, such as in http://cinder.example:8776/v3/%(project_id)s. Unset, it comes
from the catalog where [api] auth_strategy is keystone, and is
http://127.0.0.1:8776/v3/%(project_id)s otherwise.
""",
    ),
    cfg.StrOpt(
        "os_region_name",
        help="""
Region whose endpoint of the volume service is used. Set it when the catalog has several regions.
""",
    ),
    cfg.IntOpt(
        "http_retries",
        default=3,
        min=0,
        help="""
How often a request to the volume service is tried again after it could not connect, lost the
connection or got 502, 503 or 504. A request that makes a snapshot is never sent twice.
""",
    ),
    cfg.IntOpt(
        "snapshot_timeout",
        default=60,
        min=1,
        max=180,
        help="""
Seconds that the volume service may take for the snapshots of all the volumes of a server, from the
first request until none of them is being created any more. The server's file systems may be frozen
for so long, and the client waits for it. When it is over, the createImage fails and the snapshots
are deleted. Raise it for volumes whose snapshots take longer, together with [libvirt]
quiesce_timeout of the compute hosts, which must be more.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A copy: oslo.config keeps overrides in the group, and configurations must not share them.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)
    conf.register_opts(_session_opts(), group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]


def list_library_opts() -> list[tuple[str, list[Any]]]:
    """Options of keystoneauth in the group."""
    return [(GROUP.name, _session_opts())]


def _session_opts() -> list[cfg.Opt]:
    made: list[cfg.Opt] = loading.get_session_conf_options()
    cfg.set_defaults(made, timeout=TIMEOUT)
    return made
