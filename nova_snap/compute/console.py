# SPDX-License-Identifier: Apache-2.0
"""What guests print on their serial consoles."""

from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.virt.driver import ComputeDriver


def read(context: RequestContext, driver: ComputeDriver, uuid: str, length: int | None) -> str:
    """The end of an instance's console output.

    :param length: of how many lines; ``None`` or -1 for all that the driver keeps.
    :raises nova_snap.exception.InstanceNotFound: if there is no such instance.
    :raises nova_snap.exception.HypervisorError: or DomainNotFound, if it cannot be had.
    """
    instance = Instance.get_by_uuid(context, uuid)
    text = driver.get_console_output(instance).decode("utf-8", "replace")
    return tail(text, length)


def tail(text: str, length: int | None) -> str:
    """The last ``length`` lines, as Nova counts them: what is behind the last line's end is one
    more, and empty.
    """
    if length is None or length < 0:
        return text
    if length == 0:
        return ""
    return "\n".join(text.split("\n")[-length:])
