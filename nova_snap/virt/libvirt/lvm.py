# SPDX-License-Identifier: Apache-2.0
"""Logical volumes, as LVM's own command tells them: for what a device file cannot tell."""

import dataclasses
import json
import os
import subprocess
from typing import Final

from nova_snap import exception
from nova_snap.virt.libvirt import processes

SECONDS: Final = 30
_FIELDS: Final = "vg_name,lv_name,lv_path,lv_size,lv_active"
_MAX_STDERR: Final = 500


@dataclasses.dataclass(frozen=True)
class LogicalVolume:
    """:ivar group: the volume group's name.

    :ivar path: of its device, which is there only while it is active.
    :ivar size: in bytes.
    """

    group: str
    name: str
    path: str
    size: int
    active: bool


def find(path: str, program: str = "lvs") -> LogicalVolume:
    """Look a logical volume up by the path that its device has, or would have.

    :raises nova_snap.exception.LogicalVolumeUnavailable: if there is none, or LVM cannot tell.
    """
    command = (
        program, "--reportformat", "json", "--units", "b", "--nosuffix", "--options", _FIELDS,
        # It stands in a domain's XML, and is no option.
        "--", path,
    )  # fmt: skip
    try:
        done = processes.run(command, SECONDS, {**os.environ, "LC_ALL": "C"})
        done.check_returncode()
        (found,) = json.loads(done.stdout)["report"][0]["lv"]
        return LogicalVolume(
            group=str(found["vg_name"]),
            name=str(found["lv_name"]),
            path=str(found["lv_path"]),
            size=int(found["lv_size"]),
            active=str(found["lv_active"]).startswith("active"),
        )
    except subprocess.CalledProcessError as exc:
        reason = exc.stderr.strip()[-_MAX_STDERR:] or f"exit code {exc.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"no answer within {SECONDS} s"
    except OSError as exc:
        reason = str(exc)
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        reason = f"unusable answer: {exc!r}"
    raise exception.LogicalVolumeUnavailable(path=path, reason=f"{program}: {reason}")


def check_device(path: str, program: str = "lvs") -> None:
    """See that the device of a logical volume is there, and ask LVM for the reason if it is not.

    :raises nova_snap.exception.LogicalVolumeUnavailable:
    :raises nova_snap.exception.UnsafeDisk: if this is no path that a device can have.
    """
    if not os.path.isabs(path):
        raise exception.UnsafeDisk(path=path, reason="its path is not absolute")
    if os.path.exists(path):
        return
    found = find(path, program)
    volume = f"{found.group}/{found.name}"
    reason = (
        f"logical volume {volume} is not active; activate it: lvchange --activate y {volume}"
        if not found.active
        else f"logical volume {volume} is active, but its device is not there; run vgmknodes"
    )
    raise exception.LogicalVolumeUnavailable(path=path, reason=reason)
