# SPDX-License-Identifier: Apache-2.0
"""What is read of a domain's XML."""

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.domain_xml import HostDevice
from nova_snap.virt.libvirt.nova_metadata import NovaMetadata
from tests.fixtures import domain_xml as lab_xml

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"


def domain(devices: str = "", more: str = "", tag: str = "domain") -> str:
    return (
        f"<{tag} type='kvm'><name>web</name><uuid>{UUID}</uuid>"
        f"<memory unit='KiB'>524288</memory><vcpu>2</vcpu>"
        f"{more}<devices>{devices}</devices></{tag}>"
    )


def parse(devices: str = "", more: str = "") -> domain_xml.Domain:
    return domain_xml.parse(domain(devices, more), "web")


def test_domain():
    found = parse(more="<os><type arch='x86_64' machine='pc'>hvm</type></os>")
    assert (found.name, found.uuid, found.virt_type) == ("web", UUID, "kvm")
    assert (found.vcpus, found.memory_mb, found.architecture) == (2, 512, "x86_64")
    assert found.nova == NovaMetadata()
    assert found.agent_channel is None


@pytest.mark.parametrize(
    ("memory", "megabytes"),
    [
        ("<memory>1048576</memory>", 1024),
        ("<memory unit='GiB'>2</memory>", 2048),
        ("<memory unit='bytes'>1073741824</memory>", 1024),
        ("<memory unit='MB'>1000</memory>", 953),
    ],
)
def test_memory(memory, megabytes):
    xml = f"<domain><name>a</name><uuid>{UUID}</uuid>{memory}</domain>"
    assert domain_xml.parse(xml, "a").memory_mb == megabytes


@pytest.mark.parametrize("device", ["cdrom", "floppy", "lun"])
def test_no_root_disk(device):
    with pytest.raises(exception.DiskNotFound):
        parse(f"<disk device='{device}'><target dev='sda'/></disk>").root_disk()
    with pytest.raises(exception.DiskNotFound):
        parse().disk("vda")


HOSTDEVS = """
<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source>
  <alias name='hostdev0'/><address type='pci' bus='0x00' slot='0x05' function='0x0'/>
</hostdev>
<hostdev mode='subsystem' type='mdev' model='vfio-pci'>
  <source><address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/></source>
</hostdev>
<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
<interface type='hostdev'><mac address='FA:16:3E:00:00:01'/>
  <source><address type='pci' domain='0' bus='7' slot='0x10' function='1'/></source></interface>
<interface type='bridge'><mac address='fa:16:3e:00:00:02'/></interface>
<interface type='vdpa'><mac address='fa:16:3e:00:00:03'/>
  <source dev='/dev/vhost-vdpa-0'/></interface>
"""


def test_host_devices():
    devices = parse(HOSTDEVS).host_devices
    assert [(device.kind, device.address) for device in devices] == [
        ("pci", "0000:06:12.5"),
        ("mdev", "4b20d080-1b54-4048-85b3-a6a62d165c01"),
        ("sriov", "fa:16:3e:00:00:01"),
        ("sriov", "fa:16:3e:00:00:03"),
    ]
    # libvirt chooses the alias; the address in the guest is to be the same again.
    assert "alias" not in devices[0].xml
    assert 'slot="0x05"' in devices[0].xml


def test_device_exists():
    there, *_ = parse(HOSTDEVS).host_devices
    assert domain_xml.device_exists(domain(HOSTDEVS), there, "web")
    gone = HostDevice("pci", "0000:06:13.0", there.xml)
    assert not domain_xml.device_exists(domain(HOSTDEVS), gone, "web")


def test_a_device_with_names_that_are_not_ascii():
    pci = "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source><é ü='1'/>"
    (found,) = parse(f"{pci}</hostdev>").host_devices
    assert "<é ü=" in found.xml
    assert domain_xml.device_exists(domain(found.xml), found, "web")


def test_usb_device_with_the_same_numbers():
    usb = "<hostdev mode='subsystem' type='usb'><source><address bus='6'/></source></hostdev>"
    pci = HostDevice("pci", "0000:06:00.0", usb.replace("usb", "pci"))
    assert domain_xml.device_exists(domain(pci.xml), pci, "web")
    assert not domain_xml.device_exists(domain(usb), pci, "web")


def test_a_device_beside_one_whose_address_cannot_be_read():
    pci = "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev>"
    odd = "<hostdev mode='capabilities' type='pci'><source><address bus=''/></source></hostdev>"
    (found,) = parse(odd + pci).host_devices
    assert domain_xml.device_exists(domain(odd + pci), found, "web")
    assert not domain_xml.device_exists(domain(odd), found, "web")


@pytest.mark.parametrize(
    ("state", "channel"),
    [("", "defined"), ("state='connected'", "connected"), ("state='disconnected'", "disconnected")],
)
def test_agent_channel(state, channel):
    devices = (
        "<channel type='unix'><target type='virtio' name='com.redhat.spice.0'/></channel>"
        f"<channel><target type='virtio' name='org.qemu.guest_agent.0' {state}/></channel>"
    )
    assert parse(devices).agent_channel == channel


@pytest.mark.parametrize(
    ("os_id", "os_type"),
    [
        ("http://microsoft.com/win/10", "windows"),
        ("http://debian.org/debian/12", "linux"),
        (None, None),
    ],
)
def test_os_type(os_id, os_type):
    namespace = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
    info = f"<l:libosinfo xmlns:l='{namespace}'><l:os id='{os_id}'/></l:libosinfo>"
    assert parse(more=f"<metadata>{info if os_id else ''}</metadata>").os_type == os_type


def test_nova_metadata():
    given = lab_xml.NovaMetadata(
        name="web server", flavor="m1.tiny", memory_mib=512, disk_gib=3, swap_mib=64,
        ephemeral_gib=1, vcpus=2, user_id="u1", user_name="demo", project_id="p1",
        project_name="Demo", image_id="9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001",
    )  # fmt: skip
    found = parse(more=f"<metadata>{lab_xml.nova_metadata_xml(given)}</metadata>").nova
    assert (found.display_name, found.flavor_name) == ("web server", "m1.tiny")
    assert (found.memory_mb, found.root_gb, found.swap_mb) == (512, 3, 64)
    assert (found.ephemeral_gb, found.vcpus) == (1, 2)
    assert (found.user_id, found.user_name) == ("u1", "demo")
    assert (found.project_id, found.project_name) == ("p1", "Demo")
    assert found.image_ref == given.image_id
    assert found.created_at


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nova_metadata_of_a_volume_backed_instance(version):
    """Its root has no image; newer versions of Nova tell the image's properties too."""
    found = parse(
        more=f"""<metadata><n:instance xmlns:n="http://openstack.org/xmlns/libvirt/nova/{version}">
        <n:name></n:name><n:flavor name="f"><n:disk>many</n:disk></n:flavor>
        <n:root type="volume" uuid="x"/>
        <n:image><n:properties><n:property name="hw_qemu_guest_agent">True</n:property>
        </n:properties></n:image></n:instance></metadata>"""
    ).nova
    assert found == NovaMetadata(flavor_name="f", image_properties={"hw_qemu_guest_agent": "True"})


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("<domain", "broken"),
        ("", "broken"),
        (domain(tag="network"), "begins with <network>"),
        ("<domain><name>a</name></domain>", "no <uuid>"),
        (domain("<disk><source file='/d'/></disk>"), "no <target dev>"),
        (domain().replace("<vcpu>2", "<vcpu>two"), "'two', not a number"),
        (domain().replace("KiB", "furlong"), "'furlong'"),
        ("<!DOCTYPE domain [<!ENTITY e 'x'>]>" + domain(), "document type"),
        ("<domain>" + " " * domain_xml.MAX_XML_BYTES + "</domain>", "longer than"),
    ],
    ids=["cut", "empty", "network", "no-uuid", "no-target", "vcpu", "unit", "doctype", "long"],
)
def test_refused(xml, reason):
    refused(xml, reason)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        pytest.param(domain().replace(UUID, "web"), "<uuid> is web", id="uuid"),
        pytest.param(domain().replace("524288", "9" * 4000), "<memory>", id="memory-4000-digits"),
        pytest.param(domain().replace("524288", "-1"), "<memory>", id="memory-negative"),
        pytest.param(domain().replace("<vcpu>2", "<vcpu>2147483648"), "<vcpu>", id="vcpu"),
        pytest.param(domain().replace("<vcpu>2", "<vcpu>0"), "<vcpu>", id="vcpu-none"),
        pytest.param(domain().replace("<vcpu>2", "<vcpu>" + "x" * 999), "'xxx", id="vcpu-long"),
        pytest.param(
            domain(
                "<hostdev mode='subsystem' type='pci'><source><address bus='lxc'/></source>"
                "</hostdev>"
            ),
            "part 'lxc', which is none",
            id="pci-address",
        ),
        pytest.param(
            domain("<interface type='vdpa'><source><address slot='-1'/></source></interface>"),
            "part '-1', which is none",
            id="negative-address",
        ),
        pytest.param(domain().replace("web", "\ud800"), "broken", id="surrogate"),
    ],
)
def test_values_that_no_domain_has(xml, reason):
    refused(xml, reason)


@pytest.mark.parametrize("label", ["+-1:+0", "+4294967295:+0", f"+{'9' * 400}:+0", "+0:+x", ":"])
def test_no_such_owner(label):
    xml = domain(more=f"<seclabel model='dac'><label>{label}</label></seclabel>")
    assert domain_xml.dac_owner(xml) is None


@pytest.mark.parametrize("size", ["2147483648", "9" * 5000, "-1", "two"])
def test_numbers_of_nova_that_nova_could_not_keep(size):
    xml = lab_xml.nova_metadata_xml(lab_xml.NovaMetadata()).replace(
        "<nova:disk>1<", f"<nova:disk>{size}<"
    )
    assert parse(more=f"<metadata>{xml}</metadata>").nova.root_gb is None


@pytest.mark.parametrize("image", ["../../servers", "x", "{0c2ffa15-1f0e-4bd1-8f0b-6b3f3a0f9d41}"])
def test_an_image_that_has_no_id_is_none(image):
    xml = lab_xml.nova_metadata_xml(lab_xml.NovaMetadata(image_id=image))
    assert parse(more=f"<metadata>{xml}</metadata>").nova.image_ref is None


def refused(xml, reason):
    with pytest.raises(exception.InvalidDomain) as caught:
        domain_xml.parse(xml, "web")
    assert reason in caught.value.reason
    assert caught.value.domain == "web"


def test_entities_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("top secret")
    xml = f"<!DOCTYPE domain [<!ENTITY e SYSTEM 'file://{secret}'>]>" + domain("&e;")
    with pytest.raises(exception.InvalidDomain) as caught:
        domain_xml.parse(xml, "web")
    assert "top secret" not in str(caught.value)


def test_without_secrets():
    xml = domain("<graphics type='vnc' passwd='hush'/>")
    assert "hush" not in domain_xml.without_secrets(xml, "web")


def test_device_is_noted_without_what_only_the_domain_uses():
    """A namespace of the domain may be as long as its XML may be, and devices be hundreds."""
    one = (
        "<hostdev mode='subsystem' type='mdev'><source><address uuid='{}'/></source>"
        "<x:own xmlns:x='urn:own'/>{}</hostdev>"
    )
    devices = "".join(f"{one.format(number, '<alias/>')} tail" for number in range(8))
    xml = domain(devices).replace("<domain ", f"<domain xmlns:long='urn:{'u' * 4096}' ")
    found = domain_xml.parse(xml, "web").host_devices
    noted = [device.xml.replace('"', "'") for device in found]
    assert noted == [one.format(number, "") for number in range(8)]
