# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a disk's content and the bytes of an image.

::

    ImageBuildError
    +-- LayoutUnsupported    the numbers do not fit into the format
    +-- ExtentMapInvalid     the map of the disk contradicts itself
    +-- SourceMismatch       the disk gave other bytes than it was asked for
    +-- SourceStalled        a read of the disk does not come back
    +-- StreamCancelled      somebody no longer wants the image
"""

from nova_snap.exception import NovaSnapError


class ImageBuildError(NovaSnapError):
    """The bytes of an image could not be produced."""

    user_msg = "The image could not be made from the disk; the log of the compute host says why."


class LayoutUnsupported(ImageBuildError):
    """A size that the image format, or this writer, cannot do."""

    what: str
    value: int
    allowed: str
    msg = "{self.what} {self.value} cannot be used: it must be {self.allowed}"


class ExtentMapInvalid(ImageBuildError):
    """:ivar offset: in bytes, where the map goes wrong."""

    offset: int
    reason: str
    msg = "The map of the disk is invalid at offset {self.offset}: {self.reason}"


class SourceMismatch(ImageBuildError):
    """:ivar offset: in bytes, the place on the disk."""

    offset: int
    reason: str
    msg = "The disk was read wrongly at offset {self.offset}: {self.reason}"


class SourceStalled(ImageBuildError):
    """:ivar seconds: how long was waited."""

    seconds: float
    msg = "A read of the disk still waits after {self.seconds:g} s; the image cannot begin again."


class StreamCancelled(ImageBuildError):
    """:ivar done: bytes that had been handled."""

    done: int
    msg = "The image was cancelled after {self.done} bytes."
    user_msg = "The image was cancelled."
