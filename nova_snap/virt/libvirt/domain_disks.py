# SPDX-License-Identifier: Apache-2.0
"""The disks in a domain's XML: where the data of each lie, and what is needed to read them.

Nothing here asks libvirt or opens a disk.
"""

import dataclasses
import re
import uuid
from collections.abc import Sequence
from typing import Final

from lxml import etree

from nova_snap import exception

RBD: Final = "rbd"

# What Nova calls the device that decrypts a logical volume for a guest.
_DM_CRYPT: Final = re.compile(r"/dev/mapper/.+-dmcrypt")
# Ceph separates paths by these characters, and replaces what begins with a dollar sign.
_CONFIG_FILE: Final = re.compile(r"/[^,;=$\s]+")
_MAX_PORT: Final = 65535


@dataclasses.dataclass(frozen=True)
class SecretReference:
    """A secret that libvirt keeps: one of ``uuid`` and ``usage`` tells which.

    :ivar kind: what it is for: ``volume`` (a passphrase) or ``ceph``.
    """

    kind: str
    uuid: str | None = None
    usage: str | None = None

    def __str__(self) -> str:
        return self.uuid or f"{self.kind} {self.usage!r}"


@dataclasses.dataclass(frozen=True)
class Encryption:
    """The hypervisor decrypts the disk for the guest.

    :ivar format: such as ``luks``.
    :ivar secret: the passphrase; ``None`` where the XML names none.
    """

    format: str
    secret: SecretReference | None = None


@dataclasses.dataclass(frozen=True)
class NetworkSource:
    """A disk that the hypervisor reaches over the network.

    :ivar protocol: such as ``rbd``, ``iscsi`` or ``nbd``.
    :ivar name: for RBD ``pool/image``, or ``pool/namespace/image``.
    :ivar hosts: name and port of each server (for RBD: monitor); empty where a configuration file
        of the host tells them.
    :ivar config_file: of the cluster; ``None`` is the default one of the host.
    :ivar snapshot: the disk is a snapshot of the image, and not the image itself.
    """

    protocol: str
    name: str
    hosts: Sequence[tuple[str, str | None]] = ()
    user: str | None = None
    secret_uuid: str | None = None
    secret_usage: str | None = None
    config_file: str | None = None
    snapshot: str | None = None

    def check_config_file(self) -> None:
        """Ceph's programs obey what is in such a file, a path of a log or of a module included. So
        it has to be the one that the XML names, wherever a process works, and not a list either,
        of which Ceph takes what is there.

        :raises nova_snap.exception.UnsafeDisk: if it is another.
        """
        if self.config_file is not None and not _CONFIG_FILE.fullmatch(self.config_file):
            reason = f"its configuration file {self.config_file!r} is not one absolute path"
            raise exception.UnsafeDisk(path=str(self), reason=reason)

    @property
    def secret(self) -> SecretReference | None:
        """What authenticates :attr:`user`."""
        if self.secret_uuid is None and self.secret_usage is None:
            return None
        return SecretReference("ceph", self.secret_uuid, self.secret_usage)

    @property
    def pool(self) -> str:
        """Of an RBD image."""
        return self.name.partition("/")[0]

    @property
    def namespace(self) -> str | None:
        """Of an RBD image that lies in one."""
        return self.name.partition("/")[2].rpartition("/")[0] or None

    @property
    def image(self) -> str:
        """Of an RBD image: its name within pool and namespace."""
        return self.name.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.protocol}:{self.name}"


@dataclasses.dataclass(frozen=True)
class Layer:
    """A backing file that libvirt shows. :ivar path: ``None`` unless it is a file."""

    path: str | None
    format: str
    encryption: Encryption | None = None


@dataclasses.dataclass(frozen=True)
class Mirror:
    """The destination of an active copy.

    :ivar job: such as ``copy`` or ``active-commit``.
    :ivar ready: the copy has caught up with the guest and follows it.
    """

    path: str | None
    job: str
    ready: bool


@dataclasses.dataclass(frozen=True)
class Disk:
    """A ``<disk>``.

    :ivar target: such as ``vda``.
    :ivar source_type: ``file``, ``block``, ``network`` or ``volume``.
    :ivar path: of the file or block device.
    :ivar format: what the XML names, and ``raw`` where it names none, as libvirt has it. It is
        never found out by looking into the file: a guest can make a raw disk look like anything.
    :ivar backing: the backing files in order, where libvirt shows them: of a running guest.
    :ivar backing_complete: there are no others, whatever a header says.
    :ivar sliced: the disk is only a part of its file.
    :ivar readonly: the guest cannot write to it.
    :ivar shareable: other guests may write to it at the same time.
    """

    target: str
    bus: str | None
    device: str
    source_type: str
    path: str | None
    format: str
    serial: str | None = None
    backing: Sequence[Layer] = ()
    backing_complete: bool = False
    sliced: bool = False
    mirror: Mirror | None = None
    network: NetworkSource | None = None
    encryption: Encryption | None = None
    readonly: bool = False
    shareable: bool = False

    @property
    def layer_encryption(self) -> Encryption | None:
        """Of the disk, or else of the first of its backing files that libvirt shows to have one."""
        found = (self.encryption, *(layer.encryption for layer in self.backing))
        return next((each for each in found if each is not None), None)

    @property
    def encrypted(self) -> bool:
        """The disk, or a backing file that libvirt shows, is decrypted by the hypervisor."""
        return self.layer_encryption is not None

    @property
    def host_decrypted(self) -> bool:
        """The host's kernel decrypts a logical volume; the hypervisor knows nothing of it."""
        return self.source_type == "block" and _DM_CRYPT.fullmatch(self.path or "") is not None

    @property
    def is_rbd(self) -> bool:
        return self.network is not None and self.network.protocol == RBD

    @property
    def is_volume(self) -> bool:
        """It is a Cinder volume, whose uuid is then the disk's serial number."""
        try:
            return str(uuid.UUID(self.serial or "")) == (self.serial or "").lower()
        except ValueError:
            return False

    @property
    def is_local(self) -> bool:
        """The instance's own, and not a volume's: what Nova calls a local disk."""
        return (self.source_type in ("file", "block") or self.is_rbd) and not self.is_volume

    @property
    def description(self) -> str:
        """What to call it in errors."""
        return self.path or (str(self.network) if self.network else self.target)


def parse(element: etree._Element, domain: str) -> Disk:
    """:param element: a ``<disk>``.

    :param domain: what to call the domain in errors.
    :raises nova_snap.exception.InvalidDomain: if libvirt would not have written it.
    """
    target = _attribute(element, "target", "dev")
    if not target:
        raise exception.InvalidDomain(domain=domain, reason="one of its disks has no <target dev>")
    source_type = element.get("type", "file")
    try:
        network = _network(element) if source_type == "network" else None
        encryption = _encryption(element)
    except ValueError as exc:
        raise exception.InvalidDomain(domain=domain, reason=f"its disk {target} {exc}") from None
    return Disk(
        target=target,
        bus=_attribute(element, "target", "bus"),
        device=element.get("device", "disk"),
        source_type=source_type,
        path=_source_path(element),
        format=_attribute(element, "driver", "type") or "raw",
        serial=element.findtext("serial"),
        backing=tuple(_backing(element, domain)),
        backing_complete=_ends(element),
        sliced=element.find("source/slices") is not None,
        mirror=_mirror(element),
        network=network,
        encryption=encryption,
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
    )


def _attribute(root: etree._Element, path: str, attribute: str) -> str | None:
    element = root.find(path)
    return None if element is None else element.get(attribute)


def _source_path(element: etree._Element) -> str | None:
    return _attribute(element, "source", "file") or _attribute(element, "source", "dev")


def _backing(element: etree._Element, domain: str) -> list[Layer]:
    layers = []
    store = element.find("backingStore")
    while store is not None and store.find("source") is not None:
        try:
            encryption = _encryption(store)
        except ValueError as exc:
            reason = f"a backing file {exc}"
            raise exception.InvalidDomain(domain=domain, reason=reason) from None
        layers.append(
            Layer(
                path=_attribute(store, "source", "file"),
                format=_attribute(store, "format", "type") or "raw",
                encryption=encryption,
            )
        )
        store = store.find("backingStore")
    return layers


def _ends(element: etree._Element) -> bool:
    """Whether the chain has an end, which is an element without a source."""
    last = element
    while (following := last.find("backingStore")) is not None:
        last = following
    return last is not element and last.find("source") is None


def _mirror(element: etree._Element) -> Mirror | None:
    mirror = element.find("mirror")
    if mirror is None:
        return None
    return Mirror(
        path=mirror.get("file") or _source_path(mirror),
        job=mirror.get("job", "copy"),
        # 'abort' and 'pivot' say that the end was already asked for.
        ready=mirror.get("ready") == "yes",
    )


def _network(element: etree._Element) -> NetworkSource | None:
    """:raises ValueError: what is wrong with it; so do the functions below."""
    source = element.find("source")
    if source is None:
        # An empty drive.
        return None
    protocol = source.get("protocol")
    if not protocol:
        raise ValueError("has a network source without a protocol")
    name = source.get("name", "")
    if protocol == RBD:
        _check_rbd_name(name)
    auth = source.find("auth")
    if auth is None:
        # Where Nova writes it; libvirt shows it where it was written.
        auth = element.find("auth")
    secret_uuid, secret_usage = (None, None) if auth is None else _secret_keys(auth)
    return NetworkSource(
        protocol=protocol,
        name=name,
        hosts=tuple(_hosts(source)),
        user=None if auth is None else auth.get("username"),
        secret_uuid=secret_uuid,
        secret_usage=secret_usage,
        config_file=_attribute(source, "config", "file"),
        snapshot=_attribute(source, "snapshot", "name"),
    )


def _check_rbd_name(name: str) -> None:
    parts = name.split("/")
    # No part may look like an option to a program, nor name a snapshot in passing.
    if len(parts) not in (2, 3) or any(
        not part or part.startswith("-") or "@" in part or not part.isprintable() for part in parts
    ):
        raise ValueError(f"has the RBD image {name!r}; it would be POOL/IMAGE")


def _hosts(source: etree._Element) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for host in source.iterfind("host"):
        if host.get("transport", "tcp") == "unix":
            found.append((host.get("socket", ""), None))
            continue
        name, port = host.get("name"), host.get("port")
        if not name:
            raise ValueError("has a network source with a host without a name")
        if port is not None and not (
            port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT
        ):
            raise ValueError(f"has a network source with the port {port!r}")
        found.append((name, port))
    return found


def _encryption(element: etree._Element) -> Encryption | None:
    found = element.find("source/encryption")
    if found is None:
        found = element.find("encryption")
    if found is None:
        return None
    secret_uuid, secret_usage = _secret_keys(found)
    named = secret_uuid is not None or secret_usage is not None
    return Encryption(
        format=found.get("format", "default"),
        secret=SecretReference("volume", secret_uuid, secret_usage) if named else None,
    )


def _secret_keys(parent: etree._Element) -> tuple[str | None, str | None]:
    """The uuid of a secret, or else its usage."""
    secret = parent.find("secret")
    if secret is None:
        return None, None
    key, usage = secret.get("uuid"), secret.get("usage")
    if key is not None:
        try:
            return str(uuid.UUID(key)), None
        except ValueError:
            raise ValueError(f"has a secret with the uuid {key!r}") from None
    if not usage:
        raise ValueError("has a secret with neither a uuid nor a usage")
    return None, usage
