# SPDX-License-Identifier: Apache-2.0
"""Who QEMU's tools are when they read a disk: real programs, as real users, on real files."""

import logging
import os
import pwd
import resource
import stat
import subprocess

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import chain, confinement
from nova_snap.virt.libvirt.confinement import User
from nova_snap.virt.libvirt.domain_disks import NetworkSource

MIB = 1 << 20
NOBODY = User("nobody", 65534, 65534, (65534,))
DAC_READ_SEARCH = 1 << 2

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def disk(public_path):
    """A disk that everybody may read, in a directory that everybody may enter."""
    path = public_path / "images" / "disk"
    path.parent.mkdir(mode=0o755)
    path.write_bytes(os.urandom(MIB))
    path.chmod(0o644)
    return path


def layers(path):
    return [chain.Layer(str(path), "raw", MIB)]


def status(user, *more):
    """What the kernel says of a confined process."""
    words = confinement.command(
        ["cat", "/proc/self/status"], confinement.HEADER_LIMITS, user, *more
    )
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return dict(line.split(":\t", 1) for line in shown.splitlines() if ":\t" in line)


def capabilities(found):
    return {name: int(found[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


class TestRights:
    def test_of_a_disk_that_the_user_may_read(self, disk):
        found = status(NOBODY, layers(disk))
        assert found["Uid"].split() == ["65534"] * 4
        assert found["Gid"].split() == ["65534"] * 4
        assert found["Groups"].split() == ["65534"]
        assert set(capabilities(found).values()) == {0}
        assert found["NoNewPrivs"] == "1"

    @pytest.mark.parametrize("hidden", ["disk", "directory"])
    def test_of_a_disk_that_the_user_may_not_read(self, disk, hidden):
        """It may read then, and still not write."""
        (disk if hidden == "disk" else disk.parent).chmod(0o700)
        found = status(NOBODY, layers(disk))
        assert found["Uid"].split() == ["65534"] * 4
        assert set(capabilities(found).values()) == {DAC_READ_SEARCH}
        write = confinement.command(
            ["sh", "-c", 'head -c1 "$0" > /dev/null && ! touch -c "$0"', str(disk)],
            confinement.HEADER_LIMITS, NOBODY, layers(disk),
        )  # fmt: skip
        subprocess.run(write, check=True, capture_output=True)

    def test_of_a_backing_file_that_the_user_may_not_read(self, disk):
        base = disk.with_name("base")
        base.touch(0o600)
        found = status(NOBODY, [*layers(disk), *layers(base)])
        assert capabilities(found)["Eff"] == DAC_READ_SEARCH

    def test_of_a_directory_that_the_user_may_not_enter(self, disk, public_path):
        """What it writes to is its own, but may lie where it cannot get to."""
        own = public_path / "closed" / "own"
        own.mkdir(parents=True)
        os.chown(own, NOBODY.uid, NOBODY.gid)
        assert capabilities(status(NOBODY, layers(disk), [str(own)]))["Eff"] == 0
        own.parent.chmod(0o700)
        assert capabilities(status(NOBODY, layers(disk), [str(own)]))["Eff"] == DAC_READ_SEARCH

    def test_of_an_image_in_ceph(self):
        """Its keyring is found by Ceph's library, and is often root's."""
        rbd = chain.Layer("rbd:vms/x", "raw", 0, chain.RBD, NetworkSource("rbd", "vms/x"))
        assert capabilities(status(NOBODY, [rbd]))["Eff"] == DAC_READ_SEARCH

    def test_of_whoever_the_service_is(self, disk):
        found = status(None, layers(disk))
        assert found["Uid"].split() == [str(os.geteuid())] * 4
        assert found["NoNewPrivs"] == "1"

    def test_it_is_said_once(self, disk, caplog, monkeypatch):
        monkeypatch.setattr(confinement, "_told", set())
        disk.chmod(0o600)
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                status(NOBODY, layers(disk))
        said = [line for line in caplog.messages if "nobody has no right of its own" in line]
        assert len(said) == 1
        assert str(disk) in said[0]


class TestLimits:
    def limits(self):
        words = confinement.command(["cat", "/proc/self/limits"], confinement.HEADER_LIMITS)
        shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        return {line[:26].strip(): line[26:].split()[:2] for line in shown.splitlines()}

    def test_are_what_they_should_be(self):
        found = self.limits()
        assert found["Max address space"] == [str(2 << 30)] * 2
        assert found["Max cpu time"] == ["30", "30"]
        assert found["Max core file size"] == ["0", "0"]
        assert found["Max open files"] == ["1024", "1024"]

    def test_are_not_above_those_of_the_service(self, monkeypatch):
        """It could not raise them, were it not root."""
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (400, 500))
        assert "--nofile=500" in confinement.HEADER_LIMITS.arguments()
        assert "--as=500" in confinement.HEADER_LIMITS.arguments()
        assert "--cpu=30" in confinement.HEADER_LIMITS.arguments()


class TestUser:
    @pytest.fixture(autouse=True)
    def asked_anew(self):
        confinement._find_user.cache_clear()
        yield
        confinement._find_user.cache_clear()

    def test_is_the_one_that_guests_run_as(self, conf, caplog):
        known = {each.pw_name for each in pwd.getpwall()}
        expected = next(n for n in ("libvirt-qemu", "qemu", "nobody") if n in known)
        with caplog.at_level(logging.INFO):
            user = confinement.tools_user(conf)
        assert user is not None
        assert user.name == expected
        assert user.uid == pwd.getpwnam(expected).pw_uid != 0
        assert set(user.groups) == set(os.getgrouplist(expected, user.gid))
        assert f"qemu-img and qemu-nbd run as {expected}" in caplog.text

    def test_is_told(self, conf):
        conf.set_override("tools_user", "nobody", "libvirt")
        user = confinement.tools_user(conf)
        assert user is not None
        assert user.name == "nobody"

    def test_is_root(self, conf):
        conf.set_override("tools_user", "root", "libvirt")
        assert confinement.tools_user(conf) is None

    def test_is_nobody_that_is_known(self, conf):
        conf.set_override("tools_user", "no-such-user", "libvirt")
        with pytest.raises(exception.ToolsUserUnusable, match="tools_user = no-such-user: there"):
            confinement.tools_user(conf)

    def test_service_that_is_not_root(self, conf, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        assert confinement.tools_user(conf) is None
        conf.set_override("tools_user", "nobody", "libvirt")
        assert confinement.tools_user(conf) is None
        conf.set_override("tools_user", "root", "libvirt")
        with pytest.raises(exception.ToolsUserUnusable, match="does not run as root"):
            confinement.tools_user(conf)

    def test_container_that_lets_nobody_be_somebody_else(self, conf, tmp_path, monkeypatch, caplog):
        """Its root can do so little that nothing is lost."""
        fake = tmp_path / "setpriv"
        fake.write_text("#!/bin/sh\necho 'setresuid failed' >&2; exit 127\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert confinement.tools_user(conf) is None
        assert "run as root" in caplog.text
        assert "setresuid failed" in caplog.text
        conf.set_override("tools_user", "nobody", "libvirt")
        with pytest.raises(exception.ToolsUserUnusable, match="setresuid failed"):
            confinement.tools_user(conf)


class TestLent:
    def test_is_the_users_for_as_long(self, tmp_path):
        path = tmp_path / "image"
        with confinement.lent(str(path), NOBODY):
            assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), os.getegid())

    def test_is_no_link(self, tmp_path):
        """Else whoever made it would be given what it points to."""
        victim, link = tmp_path / "victim", tmp_path / "image"
        victim.touch()
        link.symlink_to(victim)
        with confinement.lent(str(link), NOBODY):
            assert victim.stat().st_uid == os.geteuid()


def test_secrets_of_the_service_are_not_in_the_environment(monkeypatch):
    monkeypatch.setenv("OS_PASSWORD", "secret")
    monkeypatch.setenv("CEPH_CONF", "/etc/ceph/other.conf")
    found = confinement.environment()
    assert found["LC_ALL"] == "C"
    assert found["CEPH_CONF"] == "/etc/ceph/other.conf"
    assert set(found) <= {"PATH", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CEPH_CONF"}
