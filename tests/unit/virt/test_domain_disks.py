# SPDX-License-Identifier: Apache-2.0
"""What is read of the disks in a domain's XML."""

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.domain_disks import (
    Disk,
    Encryption,
    Layer,
    Mirror,
    NetworkSource,
    SecretReference,
)

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"
SECRET = "ec0b4c6d-6a63-4b4c-9c6e-2b1a7d1e5a10"
VOLUME = "0c2ffa15-1f0e-4bd1-8f0b-6b3f3a0f9d41"


def parse(devices: str) -> domain_xml.Domain:
    xml = f"<domain type='kvm'><name>web</name><uuid>{UUID}</uuid><devices>{devices}</devices>"
    return domain_xml.parse(f"{xml}</domain>", "web")


def test_disk_as_nova_makes_it():
    found = parse(
        """<disk type='file' device='cdrom'><target dev='sda'/></disk>
        <disk type='file' device='disk'>
          <driver name='qemu' type='qcow2' cache='none'/>
          <source file='/var/lib/nova/instances/x/disk'/>
          <target dev='vda' bus='virtio'/><serial>abc</serial>
        </disk>
        <disk type='block'><source dev='/dev/sdb'/><target dev='vdb'/></disk>"""
    )
    path = "/var/lib/nova/instances/x/disk"
    assert found.root_disk() == Disk("vda", "virtio", "disk", "file", path, "qcow2", serial="abc")
    # A disk without a driver type is raw for libvirt, whatever is in it.
    assert found.disk("vdb") == Disk("vdb", None, "disk", "block", "/dev/sdb", "raw")


def test_backing_chain_and_mirror():
    root = parse(
        """<disk type='file' device='disk'><driver type='qcow2'/>
        <source file='/top' index='1'/>
        <backingStore type='file' index='2'><format type='qcow2'/><source file='/middle'/>
          <backingStore type='file'><format type='raw'/><source file='/base'/>
            <backingStore/></backingStore></backingStore>
        <mirror type='file' file='/copy' format='qcow2' job='copy' ready='yes'>
          <format type='qcow2'/><source file='/copy'/></mirror>
        <target dev='vda'/></disk>"""
    ).root_disk()
    assert root.backing == (Layer("/middle", "qcow2"), Layer("/base", "raw"))
    assert root.mirror == Mirror("/copy", "copy", True)


@pytest.mark.parametrize("ready", ["", "ready='abort'", "ready='pivot'"])
def test_mirror_that_is_not_ready(ready):
    root = parse(
        f"<disk><mirror type='file' job='copy' {ready}><source file='/copy'/></mirror>"
        "<target dev='vda'/></disk>"
    ).root_disk()
    assert root.mirror == Mirror("/copy", "copy", False)


def test_slice():
    inside = "<source file='/d'><slices><slice type='storage'/></slices></source>"
    assert parse(f"<disk>{inside}<target dev='vda'/></disk>").root_disk().sliced


def test_several_disks_of_a_server_with_its_root_on_rbd():
    """As libvirt shows them of a server that Nova made, with a volume and a disk for its swap."""
    found = parse(
        f"""<disk type='network' device='disk'>
          <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
          <auth username='nova'><secret type='ceph' uuid='{SECRET.upper()}'/></auth>
          <source protocol='rbd' name='vms/{UUID}_disk' index='3'>
            <host name='10.0.0.1' port='6789'/><host name='fd00::2' port='3300'/>
            <host name='mon3'/>
          </source>
          <target dev='vda' bus='virtio'/>
        </disk>
        <disk type='network' device='disk'>
          <driver name='qemu' type='raw'/>
          <source protocol='rbd' name='volumes/volume-{VOLUME}'>
            <host name='10.0.0.1' port='6789'/>
            <auth username='cinder'><secret type='ceph' usage='client.cinder secret'/></auth>
            <snapshot name='s1'/><config file='/etc/ceph/cinder.conf'/>
          </source>
          <target dev='vdb' bus='virtio'/><serial>{VOLUME}</serial>
        </disk>
        <disk type='block' device='disk'><driver name='qemu' type='raw'/>
          <source dev='/dev/vg/{UUID}_disk.swap'/><target dev='vdc'/></disk>
        <disk type='network' device='cdrom'><target dev='sda'/></disk>
        <disk type='network' device='disk'><source protocol='iscsi' name='iqn.2013-07.x:y/1'>
          <host name='10.0.0.9' port='3260'/></source><target dev='vdd'/>
          <serial>{VOLUME.upper()}</serial></disk>"""
    )
    root = found.root_disk()
    assert root.network == NetworkSource(
        "rbd",
        f"vms/{UUID}_disk",
        (("10.0.0.1", "6789"), ("fd00::2", "3300"), ("mon3", None)),
        user="nova",
        secret_uuid=SECRET,
    )
    assert root.network.secret == SecretReference("ceph", uuid=SECRET)
    assert (root.network.pool, root.network.image) == ("vms", f"{UUID}_disk")
    assert root.network.namespace is None
    assert (root.path, root.description) == (None, f"rbd:vms/{UUID}_disk")
    volume = found.disk("vdb").network
    assert volume.secret == SecretReference("ceph", usage="client.cinder secret")
    assert (volume.snapshot, volume.config_file) == ("s1", "/etc/ceph/cinder.conf")
    assert [(disk.target, disk.is_local, disk.is_volume) for disk in found.disks] == [
        ("vda", True, False),
        ("vdb", False, True),
        ("vdc", True, False),
        ("sda", False, False),
        ("vdd", False, True),
    ]
    assert found.disk("vdc").description == f"/dev/vg/{UUID}_disk.swap"
    assert found.disk("sda").description == "sda"


def test_rbd_image_in_a_namespace():
    source = NetworkSource("rbd", "vms/tenant/disk")
    assert (source.pool, source.namespace, source.image) == ("vms", "tenant", "disk")


@pytest.mark.parametrize(
    ("serial", "is_volume"),
    [
        (VOLUME, True),
        (VOLUME.upper(), True),
        (VOLUME.replace("-", ""), False),
        (f"{{{VOLUME}}}", False),
        ("WD-1234", False),
        ("", False),
    ],
)
def test_serial_number_of_a_volume_in_a_file(serial, is_volume):
    """A volume on NFS is a file too."""
    disk = parse(
        f"<disk><source file='/nfs/v'/><target dev='vda'/><serial>{serial}</serial></disk>"
    ).root_disk()
    assert (disk.is_volume, disk.is_local) == (is_volume, not is_volume)


@pytest.mark.parametrize(
    "disk",
    [
        "<disk>{0}<target dev='vda'/></disk>",
        "<disk><source file='/d'>{0}</source><target dev='vda'/></disk>",
    ],
    ids=["as-nova-writes-it", "as-libvirt-does"],
)
def test_encryption(disk):
    luks = f"<encryption format='luks'><secret type='passphrase' uuid='{SECRET}'/></encryption>"
    found = parse(disk.format(luks)).root_disk()
    assert found.encryption == Encryption("luks", SecretReference("volume", SECRET))
    assert found.encrypted
    bare = parse(disk.format("<encryption/>")).root_disk()
    assert bare.encryption == Encryption("default")


def test_encryption_of_a_backing_file():
    root = parse(
        """<disk><driver type='qcow2'/><source file='/top'/>
        <backingStore type='file'><format type='qcow2'/>
          <source file='/base'><encryption format='luks'><secret usage='base'/></encryption>
          </source><backingStore/></backingStore><target dev='vda'/></disk>"""
    ).root_disk()
    key = SecretReference("volume", usage="base")
    assert root.backing == (Layer("/base", "qcow2", Encryption("luks", key)),)
    assert root.encrypted
    assert root.encryption is None


@pytest.mark.parametrize(
    ("source", "decrypted"),
    [
        (f"<source dev='/dev/mapper/{UUID}_disk-dmcrypt'/>", True),
        (f"<source dev='/dev/vg/{UUID}_disk'/>", False),
        ("<source dev='/dev/mapper/vg-dmcrypt-disk'/>", False),
    ],
)
def test_logical_volume_that_the_host_decrypts(source, decrypted):
    root = parse(f"<disk type='block'>{source}<target dev='vda'/></disk>").root_disk()
    assert root.host_decrypted == decrypted


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("<source name='a/b'/>", "without a protocol"),
        ("<source protocol='rbd'/>", "RBD image ''; it would be POOL/IMAGE"),
        ("<source protocol='rbd' name='image'/>", "'image'"),
        ("<source protocol='rbd' name='/image'/>", "'/image'"),
        ("<source protocol='rbd' name='a/b/c/d'/>", "'a/b/c/d'"),
        ("<source protocol='rbd' name='pool/--config=x'/>", "'pool/--config=x'"),
        ("<source protocol='rbd' name='pool/a@s'/>", "'pool/a@s'"),
        ("<source protocol='rbd' name='pool/a&#10;b'/>", "'pool/a\\nb'"),
        ("<source protocol='rbd' name='p/i'><host port='1'/></source>", "without a name"),
        ("<source protocol='rbd' name='p/i'><host name='a' port='x'/></source>", "port 'x'"),
        ("<source protocol='rbd' name='p/i'><host name='a' port='0'/></source>", "port '0'"),
        ("<source protocol='rbd' name='p/i'><host name='a' port='65536'/></source>", "'65536'"),
        ("<source protocol='rbd' name='p/i'><host name='a' port='²'/></source>", "port '²'"),
        (
            "<source protocol='rbd' name='p/i'><auth><secret uuid='../x'/></auth></source>",
            "uuid '../x'",
        ),
        (
            "<source protocol='rbd' name='p/i'/><auth><secret type='ceph'/></auth>",
            "neither a uuid nor a usage",
        ),
        ("<encryption format='luks'><secret uuid=''/></encryption>", "uuid ''"),
        (
            "<backingStore><source file='/b'><encryption><secret/></encryption></source>"
            "</backingStore>",
            "a backing file has a secret with neither",
        ),
    ],
)
def test_what_libvirt_would_not_have_written_is_refused(source, reason):
    with pytest.raises(exception.InvalidDomain) as caught:
        parse(f"<disk type='network'>{source}<target dev='vda'/></disk>")
    assert reason in caught.value.reason
    assert caught.value.domain == "web"
