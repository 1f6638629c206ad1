# SPDX-License-Identifier: Apache-2.0
"""A copy that libvirt shows although no job carries it out."""

from types import SimpleNamespace

import pytest

from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.guest import Guest

DISK = """
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='/disk'/><target dev='vda' bus='virtio'/>{mirror}</disk>"""
MIRROR = "<mirror type='file' file='/copy' format='qcow2' job='copy' ready='abort'/>"
UUID = "7d0e1c52-6c25-4d40-a5b8-0a4c1d7f6f00"


def xml(mirror):
    disk = DISK.format(mirror=MIRROR if mirror else "")
    return (
        f"<domain type='qemu'><name>d</name><uuid>{UUID}</uuid><devices>{disk}</devices></domain>"
    )


def guest(jobs, mirror_later):
    """:param jobs: whether the disk has one, at each question."""
    answers = iter(jobs)
    domain = SimpleNamespace(
        blockJobInfo=lambda _target, _flags: (
            {"type": 2, "cur": 1, "end": 1} if next(answers) else {}
        ),
        XMLDesc=lambda _flags: xml(mirror_later),
    )
    connection = SimpleNamespace(lookupByUUIDString=lambda _uuid: domain)
    host = SimpleNamespace(ask=lambda _operation, _domain, function: function(connection))
    return Guest(host, name="d", uuid=UUID)


@pytest.mark.parametrize(
    ("mirror", "jobs", "mirror_later", "lost"),
    [
        (False, [], False, False),
        (True, [True], True, False),
        # It ended, well, between the two questions.
        (True, [False], False, False),
        # Another one began.
        (True, [False, True], True, False),
        (True, [False, False], True, True),
    ],
)
def test_a_copy_is_lost_if_it_stays_without_a_job(mirror, jobs, mirror_later, lost):
    disk = domain_xml.parse(xml(mirror), "d").disk("vda")
    assert guest(jobs, mirror_later).has_lost_copy(disk) is lost
