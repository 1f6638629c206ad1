# SPDX-License-Identifier: Apache-2.0
"""Options of the fake driver."""

from typing import Any

from oslo_config import cfg, types

_PHASES = ("image_snapshot", "image_pending_upload", "image_uploading")
_ACTIONS = (
    *("spawn", "destroy", "power_on", "power_off", "reboot", "pause", "unpause"),
    *("suspend", "resume", "get_console_output", "quiesce", "unquiesce"),
)
_FAULT = f"([^@:]+@)?({'|'.join(_PHASES + _ACTIONS)}):(fail|stall|hang|die|lie)"

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
        choices=[*_PHASES, *_ACTIONS],
        help="""
What always fails: a phase of every snapshot, or an action on every instance. Set it to see what a
failure looks like; faults has more of them.
""",
    ),
    cfg.ListOpt(
        "faults",
        default=[],
        item_type=types.String(regex=f"^{_FAULT}$"),
        help=f"""
What goes wrong, as [INSTANCES@]WHERE:KIND. INSTANCES is a uuid or a domain's name, in which * and ?
stand for other characters; without it, every instance meets the fault. WHERE is a phase of a
snapshot ({", ".join(_PHASES)}) or an action ({", ".join(_ACTIONS)}). KIND is

    fail   it raises an error
    stall  it goes on for ever, until it is cancelled
    hang   the same, and to be cancelled does not help: only the end of the process does
    die    the process is killed, with SIGKILL
    lie    it says that it is done, and has done nothing

Set it to see what the rest of the service makes of that. For example:

    faults = instance-000000?0@image_uploading:stall, *@spawn:fail
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
