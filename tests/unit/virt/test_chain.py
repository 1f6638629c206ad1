# SPDX-License-Identifier: Apache-2.0
"""Backing chains: what is read of them, and what is refused."""

import json
import os
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import chain, domain_disks, qcow2_header
from nova_snap.virt.libvirt.domain_disks import Encryption, NetworkSource, SecretReference
from tests.fixtures.commands import make_luks

MIB = 1 << 20


def create(path: Path, *options: str, image_format: str = "qcow2", size: int = MIB) -> Path:
    arguments = ["qemu-img", "create", "-q", "-f", image_format, *options, str(path), str(size)]
    subprocess.run(arguments, check=True)
    return path


def header(
    *,
    version: int = 3,
    backing: bytes = b"",
    extensions: tuple[tuple[int, bytes], ...] = (),
    features: int = 0,
    crypt: int = 0,
    magic: bytes = b"QFI\xfb",
    cluster_bits: int = 16,
    length: int | None = None,
) -> bytes:
    """A qcow2 header made by hand."""
    start = 104 if version == 3 else 72
    body = b"".join(
        struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)
        for kind, data in extensions
    ) + struct.pack(">II", 0, 0)
    offset = start + len(body) if backing else 0
    fixed = struct.pack(">4sIQIIQI", magic, version, offset, len(backing), cluster_bits, MIB, crypt)
    fixed = fixed.ljust(72, b"\0")
    if version == 3:
        fixed += struct.pack(">QQQII", features, 0, 0, 4, length or 104)
    return (fixed + body + backing).ljust(65536, b"\0")


def disk(path: Path, image_format: str = "qcow2", **values) -> domain_disks.Disk:
    return domain_disks.Disk("vda", "virtio", "disk", "file", str(path), image_format, **values)


def refusal(path: Path, image_format: str = "qcow2") -> str:
    with pytest.raises(exception.UnsafeDisk) as caught:
        chain.read_file(str(path), image_format)
    return caught.value.reason


def test_alone(tmp_path):
    path = create(tmp_path / "disk")
    assert chain.read(disk(path)) == [chain.Layer(str(path), "qcow2", MIB)]
    assert chain.blockdev(chain.read(disk(path))) == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": str(path)},
        "backing": None,
    }


def test_over_raw_over_odd_names(tmp_path):
    base = create(tmp_path / 'base, of: all "disks"=é', image_format="raw", size=512 * 1024)
    middle = create(tmp_path / "middle", "-b", str(base), "-F", "raw")
    top = create(tmp_path / "top", "-b", "middle", "-F", "qcow2")
    layers = chain.read(disk(top))
    assert [(layer.path, layer.format, layer.virtual_size) for layer in layers] == [
        (str(top), "qcow2", MIB),
        (str(middle), "qcow2", MIB),
        (str(base), "raw", 512 * 1024),
    ]
    text = chain.filename(layers)
    assert text.startswith("json:")
    bottom = json.loads(text[5:])["backing"]["backing"]
    assert bottom == {"driver": "raw", "file": {"driver": "file", "filename": str(base)}}


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_exclusive(tmp_path, image_format, exclusive):
    """A writer and an exclusive reader keep each other off, whichever comes first."""
    path = create(tmp_path / "disk", image_format=image_format)
    name = chain.filename(chain.read(disk(path, image_format)), exclusive=exclusive)
    writer = ["qemu-io", "-f", image_format, str(path)]
    reader = ["qemu-io", "-r", name]

    def end(process):
        process.communicate(b"quit\n", timeout=30)

    for first, second in ((writer, reader), (reader, writer)):
        held = subprocess.Popen(first, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert held.stdout is not None
        # It has opened the disk when it asks for a command.
        assert held.stdout.read(8) == b"qemu-io>"
        done = subprocess.run(
            [*second, "-c", "length"], capture_output=True, text=True, check=False, timeout=30
        )
        end(held)
        refused = "lock" in done.stdout + done.stderr
        assert refused == (exclusive or image_format == "qcow2")


def test_raw_disk_that_looks_like_qcow2(tmp_path):
    """What a guest writes to its raw disk is not a header."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s")
    path = tmp_path / "disk"
    path.write_bytes(header(backing=str(secret).encode()))
    assert chain.read(disk(path, "raw")) == [chain.Layer(str(path), "raw", 65536)]


def test_qcow2_of_version_2(tmp_path):
    base = create(tmp_path / "base", image_format="raw")
    path = create(tmp_path / "disk", "-o", "compat=0.10", "-b", str(base), "-F", "raw")
    assert [layer.format for layer in chain.read(disk(path))] == ["qcow2", "raw"]


def test_format_that_the_header_does_not_name_is_raw(tmp_path):
    base = create(tmp_path / "base", image_format="raw")
    path = tmp_path / "disk"
    path.write_bytes(header(backing=b"base"))
    assert chain.read_file(str(path), "qcow2")[1] == chain.Layer(str(base), "raw", MIB)


def test_format_that_the_header_does_not_name_but_libvirt_does(tmp_path):
    base = create(tmp_path / "base")
    path = tmp_path / "disk"
    path.write_bytes(header(backing=str(base).encode()))
    shown = disk(path, backing=(domain_disks.Layer(str(base), "qcow2"),))
    assert chain.read(shown)[1].format == "qcow2"


def test_unnamed_format_of_what_looks_like_qcow2_is_refused(tmp_path):
    create(tmp_path / "base")
    path = tmp_path / "disk"
    path.write_bytes(header(backing=b"base"))
    assert "does not name the format" in refusal(path)


REFUSED = {
    "data-file-feature": (header(features=1 << 2), "external data file"),
    "data-file-extension": (
        header(extensions=((0x44415441, b"/etc/shadow"),)),
        "external data file",
    ),
    "unknown-feature": (header(features=1 << 5), "unknown features: 0x20"),
    "encrypted": (header(crypt=2), "encrypted"),
    "version-4": (header(version=4), "version 4"),
    "no-qcow2": (header(magic=b"KDMV"), "said to be qcow2"),
    "header-length": (header(length=8), "8 bytes long"),
    "cluster-size": (header(cluster_bits=31), "2^31"),
    "cut-off": (header()[:90], "cut off"),
    "empty": (b"", "cut off"),
    "backing-json": (header(backing=b"json:{}"), "not a plain file name"),
    "backing-nbd": (header(backing=b"nbd:localhost:10809"), "not a plain file name"),
    "backing-file-protocol": (header(backing=b"file:/etc/shadow"), "not a plain file name"),
    "backing-http": (header(backing=b"http://host/image"), "not a plain file name"),
    "backing-not-utf-8": (header(backing=b"\xff\xfe"), "not UTF-8"),
    "backing-with-nul": (header(backing=b"a\0b"), "'a\\x00b'"),
    "backing-with-a-line": (header(backing=b"a\nINFO x"), r"'a\nINFO x'"),
    "backing-with-an-escape": (header(backing=b"\x1b[2Ja"), r"'\x1b[2Ja'"),
    "format-with-a-line": (
        header(backing=b"a", extensions=((0xE2792ACA, b"raw\nINFO x"),)),
        r"'raw\nINFO x'",
    ),
    "backing-missing": (header(backing=b"missing"), "cannot be read"),
    "backing-directory": (header(backing=b"."), "not a regular file"),
    "backing-device": (header(backing=b"/dev/null"), "not a regular file"),
    "backing-itself": (
        header(backing=b"disk", extensions=((0xE2792ACA, b"qcow2"),)),
        "its own backing file",
    ),
    "backing-vmdk": (
        header(backing=b"disk", extensions=((0xE2792ACA, b"vmdk"),)),
        "its format is vmdk",
    ),
    "backing-luks": (
        header(backing=b"disk", extensions=((0xE2792ACA, b"luks"),)),
        "its format is luks",
    ),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_header(tmp_path, content, reason):
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert reason in refusal(path)


def test_extension_longer_than_the_header_is_refused(tmp_path):
    content = bytearray(header(backing=b"base"))
    content[104:112] = struct.pack(">II", 0xE2792ACA, 1 << 31)
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert "longer than the header" in refusal(path)


def test_backing_name_outside_of_the_header_is_refused(tmp_path):
    content = bytearray(header(backing=b"base"))
    content[8:16] = struct.pack(">Q", 1 << 40)
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert "outside of the header" in refusal(path)


def test_loop_is_refused(tmp_path):
    extension = ((0xE2792ACA, b"qcow2"),)
    (tmp_path / "a").write_bytes(header(backing=b"b", extensions=extension))
    (tmp_path / "b").write_bytes(header(backing=b"a", extensions=extension))
    assert "its own backing file" in refusal(tmp_path / "a")


def test_endless_chain_is_refused(tmp_path):
    extension = ((0xE2792ACA, b"qcow2"),)
    for number in range(chain.MAX_DEPTH + 1):
        backing = str(number + 1).encode()
        (tmp_path / str(number)).write_bytes(header(backing=backing, extensions=extension))
    assert f"more than {chain.MAX_DEPTH}" in refusal(tmp_path / "0")


KEY = SecretReference("volume", "6e1d4f62-5c35-4b43-9c5e-3f4d0d5ae111")
LUKS = Encryption("luks", KEY)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"encryption": LUKS}, "said to be encrypted with LUKS"),
        ({"encryption": Encryption("luks")}, "no secret is named"),
        ({"encryption": Encryption("luks2", KEY)}, "its encryption is luks2"),
        ({"encryption": Encryption("qcow", KEY)}, "its encryption is qcow"),
        ({"sliced": True}, "slice"),
    ],
)
def test_refused_disk(tmp_path, values, reason):
    with pytest.raises(exception.UnsafeDisk, match=reason):
        chain.read(disk(create(tmp_path / "disk"), **values))


@pytest.mark.parametrize("source_type", ["volume", "network", "nvme"])
def test_disk_that_is_neither_file_nor_device_is_refused(source_type):
    other = domain_disks.Disk("vda", "virtio", "disk", source_type, None, "raw")
    with pytest.raises(exception.UnsafeDisk, match=f"of type {source_type}; only files"):
        chain.read(other)


class TestLocation:
    """A backing file that only a header names may be a secret of the host's."""

    @pytest.fixture
    def instances(self, tmp_path):
        """As Nova lays them."""
        for name in ("_base", "uuid"):
            (tmp_path / name).mkdir()
        return tmp_path

    def over(self, instances, backing: Path) -> Path:
        backing.parent.mkdir(exist_ok=True)
        if not backing.exists():
            create(backing, image_format="raw")
        backing.chmod(0o600)
        return create(instances / "uuid" / "disk", "-b", str(backing), "-F", "raw")

    @pytest.mark.parametrize("name", ["uuid/base", "_base/0123"])
    def test_beside_the_disk_or_in_novas_cache(self, instances, name):
        path = self.over(instances, instances / name)
        assert chain.read(disk(path))[1].path == str(instances / name)

    @pytest.mark.parametrize("name", ["other/disk", "secret", "uuid/deeper/base", "_base/a/b"])
    def test_elsewhere(self, instances, name):
        (instances / name).parent.mkdir(exist_ok=True)
        path = self.over(instances, instances / name)
        assert "not everybody on this host may read" in refusal(path)

    def test_link_to_elsewhere(self, instances):
        create(instances / "secret", image_format="raw").chmod(0o600)
        (instances / "_base" / "link").symlink_to(instances / "secret")
        path = create(
            instances / "uuid" / "disk", "-b", str(instances / "_base" / "link"), "-F", "raw"
        )
        assert "not everybody on this host may read" in refusal(path)

    @pytest.mark.parametrize(
        ("mode", "parent", "taken"), [(0o644, 0o755, True), (0o644, 0o700, False),
                                      (0o640, 0o755, False)])  # fmt: skip
    def test_what_everybody_may_read_is_no_secret(self, public_path, mode, parent, taken):
        instances = public_path / "instances"
        (instances / "uuid").mkdir(parents=True)
        base = public_path / "images" / "base"
        path = self.over(instances, base)
        base.chmod(mode)
        base.parent.chmod(parent)
        if taken:
            assert chain.read(disk(path))[1].path == str(base)
        else:
            assert "not everybody on this host may read" in refusal(path)

    @pytest.fixture
    def pool(self, public_path):
        """Where everybody may read what is of mode 0644."""
        (public_path / "guests" / "mine").mkdir(parents=True)
        return public_path / "guests"

    def over_public(self, disk: Path, backing: Path, mode: int = 0o644) -> Path:
        backing.parent.mkdir(parents=True, exist_ok=True)
        create(backing, image_format="raw").chmod(mode)
        return create(disk, "-b", str(backing), "-F", "raw")

    @pytest.mark.parametrize("name", ["other/disk", "disk", "mine/deeper/disk", "_base/a/b"])
    def test_what_may_be_the_disk_of_another_guest(self, pool, name):
        """A guest that is in its QEMU has written the name; everybody may read disks of QEMU's."""
        path = self.over_public(pool / "mine" / "disk", pool / name)
        assert "may be the disk of another guest" in refusal(path)

    def test_what_may_be_the_disk_of_a_guest_of_the_same_pool(self, pool):
        path = self.over_public(pool / "mine.qcow2", pool / "theirs" / "disk")
        assert "may be the disk of another guest" in refusal(path)

    @pytest.mark.parametrize("mode", [0o644, 0o444])
    def test_directory_of_another_instance_anywhere(self, pool, public_path, mode):
        """Nova's, for a disk of ours, or the other way."""
        victim = public_path / "nova" / "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11" / "disk"
        path = self.over_public(pool / "mine" / "disk", victim, mode)
        assert "may be the disk of another guest" in refusal(path)

    @pytest.mark.parametrize(("name", "mode"), [
        ("images/base", 0o444), ("mine/base", 0o600), ("_base/base", 0o644),
        ("../images/base", 0o644),
    ])  # fmt: skip
    def test_image_that_many_guests_share(self, pool, name, mode):
        backing = pool / name
        path = self.over_public(pool / "mine" / "disk", backing, mode)
        assert [layer.format for layer in chain.read(disk(path))] == ["qcow2", "raw"]

    def test_snapshot_beside_the_disk_of_an_instance(self, public_path):
        home = public_path / "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"
        path = self.over_public(home / "disk.snap1", home / "disk", 0o600)
        assert chain.read(disk(path))[1].path == str(home / "disk")

    def test_the_hosts_passwords(self, instances):
        path = instances / "uuid" / "disk"
        path.write_bytes(header(backing=b"/etc/shadow", extensions=((0xE2792ACA, b"raw"),)))
        assert "not everybody on this host may read" in refusal(path)

    def test_what_libvirt_shows_may_lie_anywhere(self, instances):
        path = self.over(instances, instances / "elsewhere" / "base")
        shown = (domain_disks.Layer(str(instances / "elsewhere" / "base"), "raw"),)
        assert len(chain.read(disk(path, backing=shown, backing_complete=True))) == 2

    @pytest.mark.parametrize(
        ("shown", "reason"),
        [((), "and its domain has none"), (("_base/other",), "and its domain has .*_base/other")],
    )
    def test_header_that_was_changed_under_a_guest(self, instances, shown, reason):
        """The guest does not have what it names."""
        path = self.over(instances, instances / "_base" / "0123")
        layers = tuple(domain_disks.Layer(str(instances / name), "raw") for name in shown)
        with pytest.raises(exception.UnsafeDisk, match=reason):
            chain.read(disk(path, backing=layers, backing_complete=True))


@pytest.mark.parametrize(
    ("size", "taken"),
    [(1 << 51, True), ((1 << 51) + 512, False), (1 << 60, False), ((1 << 64) - 512, False)],
)
def test_size_that_is_claimed(tmp_path, size, taken):
    content = bytearray(header())
    content[24:32] = struct.pack(">Q", size)
    path = tmp_path / "disk"
    path.write_bytes(content)
    if taken:
        assert chain.read(disk(path))[0].virtual_size == size
    else:
        assert f"claims to have {size} bytes" in refusal(path)


def test_nothing_is_opened_to_find_out_what_it_is(tmp_path):
    """To open a device may do something: a watchdog is started. A pipe lets its writer go on."""
    os.mkfifo(tmp_path / "pipe")
    opened = threading.Event()

    def write():
        os.close(os.open(tmp_path / "pipe", os.O_WRONLY))
        opened.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert "not a regular file" in refusal(tmp_path / "pipe", "raw")
        assert not opened.wait(0.2)
    finally:
        os.close(os.open(tmp_path / "pipe", os.O_RDONLY))
        writer.join(10)
    assert not writer.is_alive()
    assert opened.is_set()


def test_file_is_no_block_device_and_the_other_way(tmp_path, loop_device):
    path = create(tmp_path / "disk", image_format="raw")
    with pytest.raises(exception.UnsafeDisk, match="not a block device"):
        chain.read(domain_disks.Disk("vda", "virtio", "disk", "block", str(path), "raw"))
    assert "not a regular file" in refusal(loop_device(MIB), "raw")


@pytest.fixture
def loop_device(tmp_path):
    """Makes block devices on files of a given size."""
    made = []

    def make(size: int) -> Path:
        backing = tmp_path / f"device-{len(made)}"
        with backing.open("wb") as file:
            file.truncate(size)
        losetup = ["losetup", "--find", "--show", str(backing)]
        made.append(subprocess.run(losetup, check=True, capture_output=True, text=True).stdout)
        return Path(made[-1].strip())

    yield make
    for device in made:
        subprocess.run(["losetup", "--detach", device.strip()], check=True)


def test_block_device(tmp_path, loop_device):
    """Its size is the device's, and a link to it is as good as it."""
    device = loop_device(3 * MIB)
    link = tmp_path / "volume"
    link.symlink_to(device)
    for path in (device, link):
        found = chain.read(domain_disks.Disk("vda", "virtio", "disk", "block", str(path), "raw"))
        assert found == [chain.Layer(str(path), "raw", 3 * MIB, chain.HOST_DEVICE)]
        assert chain.blockdev(found) == {
            "driver": "raw",
            "file": {"driver": "host_device", "filename": str(path)},
        }


def test_qcow2_on_a_block_device(tmp_path, loop_device):
    device = loop_device(3 * MIB)
    base = create(tmp_path / "base", image_format="raw")
    create(device, "-b", str(base), "-F", "raw")
    shown = (domain_disks.Layer(str(base), "raw"),)
    found = chain.read(
        domain_disks.Disk("vda", "virtio", "disk", "block", str(device), "qcow2", backing=shown)
    )
    assert [(layer.driver, layer.format, layer.virtual_size) for layer in found] == [
        ("host_device", "qcow2", MIB),
        ("file", "raw", MIB),
    ]


def rbd(image_format: str = "raw", **values) -> domain_disks.Disk:
    source = NetworkSource("rbd", "vms/x_disk", **values)
    return domain_disks.Disk("vda", "virtio", "disk", "network", None, image_format, network=source)


def test_rbd_image_of_a_cluster_that_wants_no_authentication():
    found = chain.read(rbd())
    assert [(layer.path, layer.driver) for layer in found] == [("rbd:vms/x_disk", "rbd")]
    node = {"driver": "rbd", "pool": "vms", "image": "x_disk"}
    assert chain.blockdev(found) == {"driver": "raw", "file": node}
    assert chain.secrets(found) == []
    # QEMU's locks are on files: there is nothing to ask for.
    assert "blkdebug" not in chain.filename(found, exclusive=True)


def test_rbd_image_with_all_that_libvirt_can_say():
    disk = rbd(
        hosts=(("mon1", "6790"), ("fd00::2", None)), user="nova", secret_uuid=KEY.uuid,
        config_file="/etc/ceph/other.conf", snapshot="s1",
    )  # fmt: skip
    found = chain.read(disk)
    assert chain.blockdev(found)["file"] == {
        "driver": "rbd", "pool": "vms", "image": "x_disk", "snapshot": "s1",
        "conf": "/etc/ceph/other.conf", "user": "nova", "key-secret": "layer0-auth",
        "auth-client-required": ["cephx", "none"],
        "server": [{"host": "mon1", "port": "6790"}, {"host": "fd00::2", "port": "6789"}],
    }  # fmt: skip
    assert chain.secrets(found) == [("layer0-auth", SecretReference("ceph", KEY.uuid))]


def test_rbd_image_of_another_format_is_refused():
    with pytest.raises(exception.UnsafeDisk, match="rbd:vms/x_disk is refused: its format is qcow"):
        chain.read(rbd("qcow2"))


def luks(path: Path, image_format: str, *options: str) -> Path:
    key = path.with_name("key")
    key.write_text("passphrase")
    prefix = "encrypt." if image_format == "qcow2" else ""
    make_luks(
        "qemu-img", "create", "-q", "-f", image_format, "--object",
        f"secret,id=key,file={key}", "-o",
        f"{prefix}key-secret=key,{prefix}iter-time=10" + (",encrypt.format=luks" if prefix else ""),
        *options, path, str(MIB),
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("made", "said"), [("qcow2", "qcow2"), ("luks", "raw")])
def test_encrypted_disk(tmp_path, made, said):
    """QEMU opens it as it is described, with the passphrase in the object that is named."""
    path = luks(tmp_path / "disk", made)
    layers = chain.read(disk(path, said, encryption=LUKS))
    assert chain.secrets(layers) == [("layer0-key", KEY)]
    key = f"secret,id=layer0-key,file={tmp_path / 'key'}"
    command = ["qemu-io", "--object", key, "-r", chain.filename(layers, exclusive=True)]
    read = subprocess.run([*command, "-c", "read -P 0 0 0"], check=True, capture_output=True)
    assert b"read 0/0" in read.stdout
    length = subprocess.run([*command, "-c", "length"], check=True, capture_output=True)
    assert b"1 MiB" in length.stdout


def test_encrypted_backing_file_needs_a_secret_that_libvirt_shows(tmp_path):
    base = luks(tmp_path / "base", "qcow2")
    path = create(tmp_path / "disk", "-u", "-b", str(base), "-F", "qcow2")
    with pytest.raises(exception.UnsafeDisk, match="does not say with which secret"):
        chain.read(disk(path))
    shown = domain_disks.Layer(str(base), "qcow2", LUKS)
    layers = chain.read(disk(path, backing=(shown,)))
    assert chain.secrets(layers) == [("layer1-key", KEY)]
    assert chain.blockdev(layers)["backing"]["encrypt"]["key-secret"] == "layer1-key"


def test_relative_path_is_refused():
    assert "not absolute" in refusal(Path("disk"))


def test_header_of_every_image_that_qemu_img_makes(tmp_path):
    for number, options in enumerate(
        ["compat=0.10", "extended_l2=on", "compression_type=zstd", "cluster_size=512", ""]
    ):
        arguments = ("-o", options) if options else ()
        path = create(tmp_path / str(number), *arguments)
        with path.open("rb") as file:
            found = qcow2_header.read(file, str(path))
        assert found == qcow2_header.Qcow2Header(MIB, None, None)
