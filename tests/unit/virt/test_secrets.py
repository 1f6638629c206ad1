# SPDX-License-Identifier: Apache-2.0
"""Secrets on their way to QEMU's tools."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import chain, confinement, secrets
from nova_snap.virt.libvirt.domain_disks import Encryption, NetworkSource, SecretReference

KEY = SecretReference("volume", "6e1d4f62-5c35-4b43-9c5e-3f4d0d5ae111")
BASE = SecretReference("volume", usage="the base")
CHAIN = [
    chain.Layer("/top", "qcow2", 1, encryption=Encryption("luks", KEY)),
    chain.Layer("/middle", "qcow2", 1),
    chain.Layer("/base", "qcow2", 1, encryption=Encryption("luks", BASE)),
]
VALUES = {KEY: b"a passphrase, with a comma", BASE: b"\0\xff another"}


def test_files_while_they_are_needed():
    with secrets.key_files(CHAIN, VALUES.__getitem__) as keys:
        arguments = keys.arguments
        assert arguments[::2] == ["--object", "--object"]
        files = [Path(argument.partition("file=")[2]) for argument in arguments[1::2]]
        assert [argument.partition(",file=")[0] for argument in arguments[1::2]] == [
            "secret,id=layer0-key",
            "secret,id=layer2-key",
        ]
        assert [file.read_bytes() for file in files] == list(VALUES.values())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o400}
        # In memory, and nowhere that has a name.
        assert all(os.readlink(file).startswith("/memfd:") for file in files)
    assert not any(file.exists() for file in files)


USERS = [None, confinement.User("nobody", 65534, 65534, (65534,))]


@pytest.mark.parametrize("user", USERS, ids=str)
def test_another_program_can_read_them(user):
    """Whoever it is: the file is his."""
    with secrets.key_files(CHAIN, VALUES.__getitem__, user) as keys:
        path = keys.arguments[1].partition("file=")[2]
        command = confinement.command(["cat", path], confinement.HEADER_LIMITS, user)
        read = subprocess.run(command, check=True, capture_output=True, pass_fds=keys.descriptors)
        # Nobody finds it who was not started with it.
        outsider = confinement.command(
            ["cat", path.replace("self", str(os.getpid()))], confinement.HEADER_LIMITS, USERS[1]
        )
        refused = subprocess.run(outsider, check=False, capture_output=True)
    assert read.stdout == VALUES[KEY]
    assert refused.returncode == 1
    assert VALUES[KEY] not in refused.stdout


def test_none_are_needed():
    with secrets.key_files([chain.Layer("/disk", "raw", 1)], VALUES.__getitem__) as keys:
        assert keys == secrets.Keys([], [])


def test_one_that_is_not_known():
    def lookup(reference):
        if reference is KEY:
            return b"value"
        raise exception.SecretUnavailable(secret=str(reference), reason="no such secret")

    before = sorted(os.listdir("/proc/self/fd"))
    with (
        pytest.raises(
            exception.SecretUnavailable, match="volume 'the base' is not known"
        ) as caught,
        secrets.key_files(CHAIN, lookup),
    ):
        pass
    assert "value" not in str(caught.value)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_key_of_a_ceph_user():
    source = NetworkSource("rbd", "vms/x", user="nova", secret_usage="client.nova")
    layer = chain.Layer("rbd:vms/x", "raw", 0, chain.RBD, source)
    asked = []
    with secrets.key_files([layer], lambda key: asked.append(key) or b"key") as keys:
        assert keys.arguments[1].startswith("secret,id=layer0-auth,file=/proc/")
    assert asked == [SecretReference("ceph", usage="client.nova")]
