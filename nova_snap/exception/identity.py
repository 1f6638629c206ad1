# SPDX-License-Identifier: Apache-2.0
"""The identity service, and being somebody to other services."""

from collections.abc import Iterable

from nova_snap.exception.base import NovaSnapError


class IdentityError(NovaSnapError):
    """nova_snap cannot say to another service who it is, or cannot find that service."""


class IdentityServiceUnavailable(IdentityError):
    reason: str
    msg = "The identity service cannot be reached: {self.reason}"
    user_msg = "The identity service cannot be reached; try again later."


class IdentityMisconfigured(IdentityError):
    group: str
    reason: str
    msg = "What [{self.group}] says cannot be used: {self.reason}"
    user_msg = "The service's own access to the cloud is not set up right."


class NoCredentials(IdentityError):
    msg = (
        "The request carries no token, and [service_user] names nobody as whom the service could "
        "ask instead."
    )
    user_msg = "The service's own access to the cloud is not set up right."


class EndpointNotFound(IdentityError):
    """:ivar interface: those that were looked for, the preferred one first."""

    group: str
    service_type: str
    service_name: str | None
    interface: Iterable[str]
    region_name: str | None
    msg = (
        "The catalog has no endpoint for what [{self.group}] wants: service_type "
        "{self.service_type}, service_name {self.service_name}, valid_interfaces "
        "{self.interface}, region_name {self.region_name}"
    )
    user_msg = "The catalog has no endpoint of a service that is needed: {self.service_type}."
