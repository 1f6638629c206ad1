# SPDX-License-Identifier: Apache-2.0
"""Options of the instances that this host makes: where they lie, what they are made of."""

from typing import Any

from oslo_config import cfg

GROUP = "DEFAULT"

OPTS = [
    cfg.StrOpt(
        "instances_path",
        default="$state_path/instances",
        help="""
Directory of the instances' disks and console logs, each instance in a directory of its uuid, and of
the images that they are made from (_base). The users that hypervisors run as must be able to enter
it. Do not give it a directory that Nova uses: whatever lies in an instance's directory here is
deleted with the instance.
""",
    ),
    cfg.IntOpt(
        "reserved_host_disk_mb",
        default=0,
        min=0,
        help="""
MiB of the file system of instances_path that no image is downloaded into. Raise it to keep room for
the host itself and for what the guests' disks will grow by.
""",
    ),
    cfg.BoolOpt(
        "remove_unused_base_images",
        default=True,
        help="""
Remove images from the cache (_base in instances_path) that no instance of this host is made from
any more. It is looked for when another image is downloaded, and when the service starts.
""",
    ),
    cfg.IntOpt(
        "remove_unused_original_minimum_age_seconds",
        default=86400,
        min=3600,
        help="""
Seconds since its last use that an image stays in the cache although no instance is made from it.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP, OPTS)]
