# SPDX-License-Identifier: Apache-2.0
"""Limits for what a request may ask for."""

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup("quota", title="Quota")

OPTS = [
    cfg.IntOpt(
        "instances",
        default=10,
        min=-1,
        help="""
How many instances a project may have; -1 for no limit. Adopted ones count, but adopting is never
refused.
""",
    ),
    cfg.IntOpt(
        "cores",
        default=20,
        min=-1,
        help="""
How many virtual CPUs the instances of a project may have together; -1 for no limit.
""",
    ),
    cfg.IntOpt(
        "ram",
        default=51200,
        min=-1,
        help="""
How many MiB of memory the instances of a project may have together; -1 for no limit.
""",
    ),
    cfg.IntOpt(
        "metadata_items",
        default=128,
        min=-1,
        help="""
How many items the metadata of a server may have; -1 for no limit.

It is the limit for the metadata of a createImage too for microversions below 2.39. From 2.39 on,
as in Nova, that limit is the image service's own.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # Not GROUP itself: oslo.config keeps the values of overrides in it, for every ``conf`` at once.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
