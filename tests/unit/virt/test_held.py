# SPDX-License-Identifier: Apache-2.0
"""Guests that are held still for somebody else's snapshot."""

import dataclasses
import os

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt.snapshot import held
from tests.unit.virt import doubles
from tests.unit.virt.starved import without_threads


class Guest(doubles.FakeGuest):
    def describe(self):
        return dataclasses.replace(super().describe(), agent_channel="connected")


@dataclasses.dataclass
class Instance:
    uuid: str = doubles.UUID
    image_properties: dict = dataclasses.field(
        default_factory=lambda: {"hw_qemu_guest_agent": "yes"}
    )


def test_freeze_and_thaw(conf):
    guest = Guest()
    guests = held.HeldGuests(conf, doubles.FakeHost(guest))
    guests.freeze(Instance(), guest, "an-image")
    assert guest.frozen
    with pytest.raises(exception.AgentError, match="held still already"):
        guests.freeze(Instance(), guest, "another-image")
    assert guests.thaw(doubles.UUID, "an-image")
    assert not guest.frozen
    assert os.listdir(conf.libvirt.snapshots_directory) == []


def test_no_thread_to_hold_it_with(conf, monkeypatch):
    """The guest is not frozen, and the next one may hold it."""
    guest = Guest()
    guests = held.HeldGuests(conf, doubles.FakeHost(guest))
    with (
        without_threads(monkeypatch),
        pytest.raises(exception.AgentError, match="can't start new thread"),
    ):
        guests.freeze(Instance(), guest, "an-image")
    assert "freeze" not in guest.calls
    guests.freeze(Instance(), guest, "another-image")
    assert guest.frozen
    assert guests.thaw(doubles.UUID, "another-image")
