# SPDX-License-Identifier: Apache-2.0
"""What a client asks for when it asks for a server.

All that Nova's API takes is understood. What nova_snap cannot do is refused wherever it would be a
lie to go on without it; what changes nothing is let pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from oslo_config import cfg
from oslo_utils import strutils, uuidutils

from nova_snap import exception
from nova_snap.api import errors, flavor_lookup, text
from nova_snap.api.policies import Enforcer
from nova_snap.api.policies import servers as rules
from nova_snap.api.schemas.server_create import HINTS
from nova_snap.compute.server_request import ServerRequest
from nova_snap.context import RequestContext
from nova_snap.objects.flavor import Flavor

Server = Mapping[str, Any]

# What has no effect when it is empty, and is refused when it is not.
_UNSUPPORTED: Final[Mapping[str, str]] = {
    "block_device_mapping": "a server has the disk of its image and no other",
    "personality": "no files are put into a server's disk",
    "tags": "servers have no tags",
    "trusted_image_certificates": "signatures of images are not verified",
    "user_data": "servers have neither a metadata service nor a config drive to read it from",
}

# Of a block device mapping: what says where the only disk comes from, and what changes nothing.
_MAPPING_KEYS: Final = frozenset(
    {"source_type", "destination_type", "uuid", "boot_index", "delete_on_termination"}
)


class Unsupported(exception.Invalid):
    """:ivar what: what Nova has and nova_snap has not."""

    what: str
    reason: str
    msg = "{self.what} is not supported: {self.reason}."


class ZeroDiskFlavor(exception.Forbidden):
    flavor_id: str
    msg = (
        "Only volume-backed servers are allowed for flavors with zero disk, such as "
        "{self.flavor_id}."
    )


def parse(
    context: RequestContext, body: Mapping[str, Any], conf: cfg.ConfigOpts, enforcer: Enforcer
) -> ServerRequest:
    """Read a body that the schema has accepted.

    :raises nova_snap.exception.Invalid: for what cannot be done, or names what is not there.
    :raises nova_snap.exception.Forbidden: for what the client may not ask for.
    """
    server = body["server"]
    _refuse_unsupported(server)
    _check_hints(body)
    image_ref = _image(server)
    _check_mappings(server.get("block_device_mapping_v2", ()), image_ref)
    minimum, maximum = _counts(server)
    if "hostname" in server and maximum > 1:
        raise errors.ValidationError(
            reason="Unable to allocate a single hostname to multiple instances"
        )
    zone, host = _destination(context, server, enforcer)
    if zone not in (None, conf.default_availability_zone):
        raise errors.ValidationError(
            reason=f"The requested availability zone is not available: {text.shorten(zone)}"
        )
    flavor = _flavor(context, str(server["flavorRef"]))
    if flavor.root_gb == 0 and not enforcer.allows(context, rules.CREATE_ZERO_DISK):
        raise ZeroDiskFlavor(flavor_id=flavor.flavorid)
    return ServerRequest(
        name=server["name"],
        image_ref=image_ref,
        flavor=flavor,
        metadata=dict(server.get("metadata", {})),
        description=server.get("description"),
        availability_zone=zone,
        hostname=server.get("hostname"),
        network=_network(server.get("networks"), conf),
        min_count=minimum,
        max_count=maximum,
        return_reservation_id=_is_yes(server.get("return_reservation_id")),
        host=host,
        access_ip_v4=_address(server, "accessIPv4"),
        access_ip_v6=_address(server, "accessIPv6"),
        auto_disk_config=server.get("OS-DCF:diskConfig") == "AUTO",
    )


def security_groups(server: Server) -> list[dict[str, str]]:
    """What the answer says of them; Nova's default, where none were asked for."""
    names = {group["name"] for group in server.get("security_groups", ()) if "name" in group}
    return [{"name": name} for name in sorted(names or {"default"})]


def _refuse_unsupported(server: Server) -> None:
    for name, reason in _UNSUPPORTED.items():
        if server.get(name):
            raise Unsupported(what=name, reason=reason)
    if _is_yes(server.get("config_drive")):
        raise Unsupported(what="config_drive", reason="servers are made without one")
    if "key_name" in server:
        raise errors.ValidationError(
            reason="Invalid key_name provided. No key pairs are kept here."
        )
    for group in security_groups(server):
        if group["name"] != "default":
            raise errors.ValidationError(
                reason=f"Security group {text.shorten(group['name'])} not found: there is none "
                "here but 'default', which filters nothing."
            )


def _check_hints(body: Mapping[str, Any]) -> None:
    for key in ("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"):
        for name in body.get(key, {}):
            if name in HINTS:
                raise Unsupported(
                    what=f"the scheduler hint {name}", reason="hosts are chosen without hints"
                )


def _image(server: Server) -> str:
    if not server.get("imageRef"):
        if server.get("block_device_mapping_v2"):
            raise Unsupported(
                what="a server without an imageRef",
                reason="it would boot from a volume, and there are no volumes here",
            )
        raise errors.ValidationError(reason="Missing imageRef attribute")
    return str(server["imageRef"])


def _check_mappings(mappings: Sequence[Mapping[str, Any]], image_ref: str) -> None:
    """The one that says no more than ``imageRef`` does is let pass."""
    for mapping in mappings:
        is_image = (
            mapping.get("source_type") == "image"
            and mapping.get("destination_type", "local") == "local"
            and str(mapping.get("boot_index")) == "0"
        )
        others = sorted(
            key
            for key, value in mapping.items()
            if key not in _MAPPING_KEYS and value not in (None, "")
        )
        if len(mappings) > 1 or not is_image or others:
            what = ", ".join(others) if is_image and others else "this block_device_mapping_v2"
            raise Unsupported(
                what=what,
                reason="a server has one disk, of source_type image, destination_type local and "
                "boot_index 0",
            )
        if mapping.get("uuid") != image_ref:
            raise errors.ValidationError(
                reason="Block Device Mapping is Invalid: its image is not the one that imageRef "
                "names."
            )


def _counts(server: Server) -> tuple[int, int]:
    minimum = int(server.get("min_count", 1))
    maximum = int(server.get("max_count", minimum))
    if minimum > maximum:
        raise errors.ValidationError(reason="min_count must be <= max_count")
    return minimum, maximum


def _flavor(context: RequestContext, flavor_id: str) -> Flavor:
    """:raises nova_snap.api.errors.ValidationError: here it is a value that cannot be used."""
    try:
        return flavor_lookup.find(context, flavor_id)
    except exception.FlavorNotFound as error:
        raise errors.ValidationError(reason=error.for_user()) from error


def _destination(
    context: RequestContext, server: Server, enforcer: Enforcer
) -> tuple[str | None, str | None]:
    """The availability zone, and the host, for those who may name one."""
    zone, _, forced = server.get("availability_zone", "").partition(":")
    # zone:host:node; a host has one node, which is named as itself.
    host, _, node = forced.partition(":")
    if host or node:
        enforcer.authorize(context, rules.CREATE_FORCED_HOST)
    named = [server[key] for key in ("host", "hypervisor_hostname") if key in server]
    if named:
        enforcer.authorize(context, rules.REQUESTED_DESTINATION)
    hosts = {name for name in (host, node, *named) if name}
    if len(hosts) > 1:
        raise errors.ValidationError(
            reason=f"More than one host is named: {text.shorten(', '.join(sorted(hosts)))}"
        )
    return zone or None, next(iter(hosts), None)


def _network(networks: Sequence[Mapping[str, Any]] | str | None, conf: cfg.ConfigOpts) -> str:
    """What the server is connected to, in the words of :class:`ServerRequest`."""
    if not networks:
        return "auto"
    if isinstance(networks, str):
        return networks
    if len(networks) > 1:
        raise Unsupported(what="more than one network", reason="a server has one network interface")
    (network,) = networks
    for key in ("port", "fixed_ip", "tag"):
        if network.get(key) is not None:
            raise Unsupported(
                what=f"{key} of a network",
                reason="networks are libvirt's, which know of no such thing",
            )
    identifier = network.get("uuid")
    if identifier is None:
        raise errors.ValidationError(reason="Missing 'uuid' attribute of a network")
    if not uuidutils.is_uuid_like(identifier):
        raise errors.ValidationError(
            reason="Bad networks format: network uuid is not in proper format "
            f"({text.shorten(identifier)})"
        )
    known: Mapping[str, str] = conf.api.networks
    if identifier not in known:
        raise errors.ValidationError(reason=f"Network {identifier} could not be found.")
    return known[identifier]


def _address(server: Server, name: str) -> str | None:
    return text.canonical_address(server[name]) if name in server else None


def _is_yes(value: object) -> bool:
    return bool(strutils.bool_from_string(value))
