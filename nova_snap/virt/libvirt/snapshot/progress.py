# SPDX-License-Identifier: Apache-2.0
"""How far a snapshot is: for who waits for it, and for the error that says where it failed."""

from collections.abc import Callable, Sequence

from nova_snap.compute import task_states
from nova_snap.virt.driver import SnapshotMonitor, UpdateTaskState


class Progress:
    """The phases of one snapshot.

    :ivar phase: the task_state that it is in.
    :ivar method: how it is taken; ``none`` until that is decided.
    :ivar warnings: what is not as it was, in words for the user.
    :ivar where: which of several disks is being sent, for the beginning of an error's message.
    """

    def __init__(self, update_task_state: UpdateTaskState, monitor: SnapshotMonitor) -> None:
        self._update_task_state = update_task_state
        self.monitor = monitor
        self.phase: str = task_states.IMAGE_SNAPSHOT
        self.method = "none"
        self.warnings: list[str] = []
        self.where = ""

    def begin(self) -> None:
        """The disks' content is taken from here on.

        A method that takes over from another finds the phase reached already.
        """
        self.monitor.check()
        if self.phase != task_states.IMAGE_SNAPSHOT:
            return
        self._update_task_state(task_states.IMAGE_PENDING_UPLOAD)
        self.phase = task_states.IMAGE_PENDING_UPLOAD

    def upload(self) -> None:
        """The content is sent from here on. See :meth:`begin`."""
        self.monitor.check()
        if self.phase == task_states.IMAGE_UPLOADING:
            return
        self._update_task_state(
            task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
        )
        self.phase = task_states.IMAGE_UPLOADING


class PartMonitor:
    """One image's share in the progress of all of a snapshot's images."""

    def __init__(self, whole: SnapshotMonitor, report: Callable[[int, int], None]) -> None:
        self._whole = whole
        self._report = report

    def progress(self, done: int, total: int) -> None:
        """:param done: bytes of this image that were sent. :param total: its length in bytes."""
        self._report(done, total)

    def check(self) -> None:
        """See :meth:`nova_snap.virt.driver.SnapshotMonitor.check`."""
        self._whole.check()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """See :meth:`nova_snap.virt.driver.SnapshotMonitor.on_cancel`."""
        self._whole.on_cancel(callback)


def parts(whole: SnapshotMonitor, count: int) -> Sequence[SnapshotMonitor]:
    """A monitor for each of ``count`` images, whose progress ``whole`` is told in one sum."""
    done, total = [0] * count, [0] * count

    def part(number: int) -> PartMonitor:
        def report(sent: int, size: int) -> None:
            done[number], total[number] = sent, size
            whole.progress(sum(done), sum(total))

        return PartMonitor(whole, report)

    return [part(number) for number in range(count)]
