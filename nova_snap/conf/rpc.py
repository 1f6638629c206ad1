# SPDX-License-Identifier: Apache-2.0
"""Options of the messages between the processes."""

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup("rpc", title="Messages")

OPTS = [
    cfg.StrOpt(
        "compute_topic",
        default="nova_snap_compute",
        help="""
Topic that compute hosts listen on. A request for one host goes to this topic with the host's name
as server. Keep it different from Nova's own 'compute' where both share one RabbitMQ. It must be
the same in every process, and in every service that casts to nova_snap.
""",
    ),
    cfg.IntOpt(
        "send_retries",
        default=2,
        min=0,
        help="""
How often a process tries again to hand a message to the broker before it gives up. While it
tries, the client waits; when it gives up, the client gets 503 and nothing has changed.
""",
    ),
    cfg.IntOpt(
        "call_timeout",
        default=30,
        min=1,
        help="""
Seconds that the API waits for a compute host's answer where it needs one: the console's output, and
that a guest is frozen or thawed for the snapshots of its volumes. Keep it above twice the hosts'
[libvirt] agent_timeout. The client gets 503 then.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A copy: oslo.config keeps overrides in the group, and configurations must not share them.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
