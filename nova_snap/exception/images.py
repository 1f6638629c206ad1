# SPDX-License-Identifier: Apache-2.0
"""The image service, and images that cannot be used."""

from nova_snap.exception.base import Forbidden, Invalid, NotFound, NovaSnapError


class ImageNotFound(NotFound):
    image_id: str
    msg = "Image {self.image_id} could not be found."


class ImagePropertyNotFound(NotFound):
    image_id: str
    key: str
    msg = "Image {self.image_id} has no metadata with key {self.key}."


class InvalidImageProperty(Invalid):
    reason: str
    msg = "The image service refused the image's properties: {self.reason}"


class ImageUnacceptable(Invalid):
    """An image that no instance may be, or can be, made from."""

    image_id: str
    reason: str
    msg = "Image {self.image_id} is unacceptable: {self.reason}"


class RequestedImageNotFound(Invalid):
    """The image that a server is to be made from is not there."""

    image_id: str
    msg = "Can not find requested image {self.image_id}"


class ImageNotActive(Invalid):
    image_id: str
    msg = "Image {self.image_id} is not active."


class ImageForbidden(Forbidden):
    image_id: str | None
    reason: str
    msg = "The image service refused the request: {self.reason}"


class ImageServiceError(NovaSnapError):
    reason: str
    msg = "The image service answered with an error: {self.reason}"


class ImageServiceUnavailable(ImageServiceError):
    endpoint: str
    msg = "The image service at {self.endpoint} cannot be reached: {self.reason}"
    user_msg = "The image service cannot be reached; try again later."


class ImageRejected(ImageServiceError):
    """The image service took the data and found it unacceptable."""

    image_id: str
    msg = "The image service refused the data of image {self.image_id}: {self.reason}"


class ImageLocationRefused(ImageServiceError):
    """The image service does not take data that lie in a store already."""

    image_id: str
    msg = "The image service takes no location for image {self.image_id}: {self.reason}"


class ImageTooLarge(ImageServiceError):
    msg = "The image service refused the image as too large or over quota: {self.reason}"


class ImageConflict(ImageServiceError):
    image_id: str
    msg = "The image service refuses this in image {self.image_id}'s status: {self.reason}"


class ImageCorrupt(ImageServiceError):
    """What the image service sent is not what its record says."""

    image_id: str
    msg = "The data of image {self.image_id} are not what its record says: {self.reason}"


class ImageSourceUnreadable(NovaSnapError):
    """What an image is to be made of cannot be read on the host that sends it."""

    reason: str
    msg = "The data of the image cannot be read on this host: {self.reason}"
    user_msg = "The data of the image could not be read; the log of the compute host says why."
