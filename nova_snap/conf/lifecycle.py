# SPDX-License-Identifier: Apache-2.0
"""Options of an instance's life: how many at a time, how long anything may take."""

from typing import Any

from oslo_config import cfg

GROUP = "DEFAULT"

OPTS = [
    cfg.StrOpt(
        "instance_name_template",
        default="nova-snap-%08x",
        regex=r"^[A-Za-z0-9._-]*%(0?[0-9]*[dx]|\(uuid\)s)[A-Za-z0-9._-]*$",
        help="""
How the libvirt domain of a new instance is called: made of a number (%d, %08x) or of %(uuid)s.

Two domains of one host cannot have the same name. The default differs from Nova's own,
instance-%08x, so that both can make guests on one host. Instances that exist keep their names.
""",
    ),
    cfg.IntOpt(
        "max_concurrent_builds",
        default=10,
        min=1,
        help="""
How many new instances this host makes at the same time; the others wait in task_state scheduling.
""",
    ),
    cfg.FloatOpt(
        "ram_allocation_ratio",
        default=1.5,
        min=0.0,
        help="""
How much memory a host may give to instances, as a multiple of what it has. A host without room for
a new instance is not chosen for it. It is read by the API. Guests of which this service does not
know do not count.
""",
    ),
    cfg.IntOpt(
        "instance_build_timeout",
        default=3600,
        min=0,
        help="""
Seconds after which an instance that is still being made is given up, with vm_state error; 0 never
gives up. The time that it takes to get the image counts.
""",
    ),
    cfg.IntOpt(
        "shutdown_timeout",
        default=60,
        min=0,
        help="""
Seconds that a guest has to shut itself down when it is stopped or softly rebooted, before it is
made to. An image may say otherwise for its instances, with its property os_shutdown_timeout, up to
600 seconds.
""",
    ),
    cfg.IntOpt(
        "sync_power_state_interval",
        default=600,
        min=-1,
        help="""
Seconds between two comparisons of what the database says of this host's instances with what the
hypervisor says; -1 for none at all, 0 for the default.

The hypervisor's own events are acted on at once. The comparison finds what was missed.
""",
    ),
    cfg.StrOpt(
        "default_guest_network",
        default="none",
        help="""
What a new server is connected to whose request leaves that open (no networks, or 'auto'): none;
user, where the guest reaches out through the host and nobody reaches it; or the name of a libvirt
network of the compute hosts, such as default.

A guest on the network user can reach services that the host offers to itself only (its 127.0.0.1),
this service among them. Do not set it where guests are not trusted.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP, OPTS)]
