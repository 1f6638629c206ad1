# SPDX-License-Identifier: Apache-2.0
"""Whether an instance may be made from an image: by its record, and by what its data are.

The format is what the record says, and never found out from the data; the data are looked at only
to refuse what is not what it was said to be, or what refers to something outside of itself.
"""

from collections.abc import Mapping
from typing import Any, Final

from oslo_utils import units
from oslo_utils.imageutils import format_inspector

from nova_snap import exception
from nova_snap.virt.libvirt import qcow2_header

SUPPORTED_FORMATS: Final = ("qcow2", "raw")

# A raw image begins with whatever a disk begins with, a partition table among other things.
_LOOKS_LIKE: Final = {"qcow2": ("qcow2",), "raw": ("raw", "gpt")}

# The mark that lies deepest is ISO 9660's, at 32 KiB; the largest header, VHDX's, ends at 1 MiB.
_INSPECTED_BYTES: Final = units.Mi
# A descriptor of VMDK that is text has to be in the first one, so this is what the library reads.
_CHUNK: Final = 4096


def check_record(image_id: str, record: Mapping[str, Any]) -> None:
    """What can be told before the image is downloaded.

    :param record: the image service's, flat.
    :raises nova_snap.exception.ImageUnacceptable:
    """
    reason = _reason_against(record)
    if reason is not None:
        raise exception.ImageUnacceptable(image_id=image_id, reason=reason)


def _reason_against(record: Mapping[str, Any]) -> str | None:
    status, size = record.get("status"), record.get("size")
    disk_format, container = record.get("disk_format"), record.get("container_format")
    if status != "active":
        return f"its status is {status}, not active"
    if disk_format not in SUPPORTED_FORMATS:
        known = " and ".join(SUPPORTED_FORMATS)
        return f"its disk_format is {disk_format}; instances are made from {known}"
    if container not in ("bare", None):
        return f"its container_format is {container}; instances are made from bare"
    if not size:
        return "it has no data, as the image of an instance that boots from a volume"
    for name in ("kernel_id", "ramdisk_id"):
        if record.get(name):
            return f"it boots from a kernel of its own ({name}), which is not supported"
    if record.get("cinder_encryption_key_id"):
        return "it is encrypted"
    return None


def check_file(image_id: str, path: str, disk_format: str, root_gb: int) -> int:
    """Look at an image's data.

    :param disk_format: what the record says, one of :data:`SUPPORTED_FORMATS`.
    :param root_gb: GiB that the instance's disk is to have; 0 is as large as the image.
    :returns: how many bytes a guest sees.
    :raises nova_snap.exception.ImageUnacceptable:
    """
    try:
        size = _virtual_size(path, disk_format)
    except exception.UnsafeDisk as exc:
        raise exception.ImageUnacceptable(image_id=image_id, reason=exc.reason) from exc
    if root_gb and size > root_gb * units.Gi:
        reason = (
            f"a guest sees {size} bytes of it, and the flavor has a disk of {root_gb} GiB "
            f"({root_gb * units.Gi} bytes)"
        )
        raise exception.ImageUnacceptable(image_id=image_id, reason=reason)
    return size


def _virtual_size(path: str, disk_format: str) -> int:
    inspector = _inspect(path)
    found = str(inspector)
    if found not in _LOOKS_LIKE[disk_format]:
        raise _refused(path, f"its disk_format is {disk_format}, but its data are {found}")
    with open(path, "rb") as file:
        if disk_format == "raw":
            return file.seek(0, 2)
        try:
            inspector.safety_check()
        except format_inspector.SafetyCheckFailed as exc:
            failures = "; ".join(str(failure) for failure in exc.failures.values())
            raise _refused(path, f"its header is not safe: {failures}") from exc
        except format_inspector.ImageFormatError as exc:
            raise _refused(path, f"its header cannot be checked: {exc}") from exc
        # It knows less of the header: what is encrypted, and what the extensions say.
        header = qcow2_header.read(file, path)
    if header.backing_file is not None:
        raise _refused(path, "it has a backing file")
    return header.virtual_size


def _inspect(path: str) -> format_inspector.FileInspector:
    """Have all formats look at the beginning, which is where each of them has its mark.

    The library would go on to the end of the file for tables that a header says are there.
    """
    with open(path, "rb") as file:
        wrapper = format_inspector.InspectWrapper(file)
        try:
            for _ in range(_INSPECTED_BYTES // _CHUNK):
                if not wrapper.read(_CHUNK):
                    break
            # What has not found its mark by now is not the format.
            wrapper.close()
            inspector = wrapper.format
        except format_inspector.ImageFormatError as exc:
            raise _refused(path, f"its format is ambiguous: {exc}") from exc
        except AttributeError as exc:
            # The library's, of what begins as a text and does not go on as one.
            raise _refused(path, "its format cannot be told") from exc
    if inspector is None:
        raise _refused(path, "its format cannot be told")
    return inspector


def _refused(path: str, reason: str) -> exception.UnsafeDisk:
    return exception.UnsafeDisk(path=path, reason=reason)
