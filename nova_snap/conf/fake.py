# SPDX-License-Identifier: Apache-2.0
"""Options of the fake driver."""

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup("fake", title="Fake driver")

OPTS = [
    cfg.FloatOpt(
        "snapshot_delay",
        default=0.0,
        min=0.0,
        help="""
Seconds that each phase of a snapshot takes. Set it to make a load run look like a real host.
""",
    ),
    cfg.FloatOpt(
        "spawn_delay",
        default=0.0,
        min=0.0,
        help="""
Seconds that making an instance takes. Set it to see what an instance in BUILD looks like.
""",
    ),
    cfg.FloatOpt(
        "action_delay",
        default=0.0,
        min=0.0,
        help="""
Seconds that each other action on an instance takes: start, stop, reboot, pause, delete and so on.
""",
    ),
    cfg.IntOpt(
        "snapshot_size",
        default=65536,
        min=1,
        help="""
Bytes of image data that a snapshot uploads.
""",
    ),
    cfg.IntOpt(
        "snapshot_disks",
        default=1,
        min=1,
        max=26,
        help="""
Disks that every instance has. With more than one, a snapshot becomes that many images, as with
[libvirt] snapshot_all_disks.
""",
    ),
    cfg.StrOpt(
        "fail_in",
        choices=[
            *("image_snapshot", "image_pending_upload", "image_uploading"),
            *("spawn", "destroy", "power_on", "power_off", "reboot", "pause", "unpause"),
            *("suspend", "resume", "get_console_output", "quiesce", "unquiesce"),
        ],
        help="""
What always fails: a phase of every snapshot, or an action on every instance. Set it to see what a
failure looks like.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A group of its own: what is set in one configuration must not show in another.
    conf.register_group(cfg.OptGroup(GROUP.name, title=GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
