# SPDX-License-Identifier: Apache-2.0
"""What a machine keeps besides its disks: UEFI variables and the state of its TPM.

The firmware and the TPM are real, and no system runs: the firmware itself writes to the TPM.
"""

import pytest

from tests.functional import lifecycle_parts
from tests.functional import snapshot_parts as parts
from tests.functional.lifecycle_parts import until

CODE, TEMPLATE = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
# As if somebody had wanted to see it survive everything: only an explicit removal takes it away.
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'/></tpm>"
# In the spare block, which the firmware uses only when it runs out of room.
MARK = b"of this machine "


class Machine:
    """A guest with UEFI and a TPM, and the files that it keeps."""

    def __init__(self, lab):
        self.variables = lab.root / "lib/qemu/nvram/firmware_VARS.fd"
        self.variables.parent.mkdir(parents=True, exist_ok=True)
        with open(TEMPLATE, "rb") as template:
            self.variables.write_bytes(template.read()[: -len(MARK)] + MARK)
        loader = (
            f"<loader readonly='yes' type='pflash'>{CODE}</loader><nvram template='{TEMPLATE}'/>"
        )
        self.guest = lab.define_guest(
            "firmware", lab.make_disk(), machine="q35", loader_xml=loader, devices_xml=TPM
        )
        self.tpm = lab.root / "lib/swtpm" / self.guest.uuid
        self.guest.start()
        fresh = self.tpm_state()
        until(lambda: self.tpm_state() != fresh, 60)
        self.guest.suspend()

    def tpm_state(self) -> bytes:
        """What the TPM keeps when it is off."""
        return (self.tpm / "tpm2/tpm2-00.permall").read_bytes()

    def kept(self) -> tuple[bytes, bytes]:
        return self.variables.read_bytes(), self.tpm_state()


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def machine(lab):
    return Machine(lab)


@pytest.mark.parametrize("way", parts.WAYS)
def test_running_machine(machine, lab, tmp_path, way):
    before = machine.kept()
    with parts.open_world(lab, tmp_path, way) as world:
        taken = world.snapshot(machine.guest)
    assert machine.kept() == before
    assert before[0].endswith(MARK)
    assert parts.differences(taken, machine.guest) == ""


def test_machine_that_is_off_and_then_deleted(machine, lab, tmp_path):
    before = machine.kept()
    machine.guest.destroy()
    with parts.open_world(lab, tmp_path) as world:
        assert world.snapshot(machine.guest).report.method == "offline"
        assert machine.kept() == before
        machine.guest.start(paused=True)
        assert machine.kept()[0] == before[0]
        machine.guest.destroy()
        world.driver.destroy(parts.Instance(machine.guest.uuid, machine.guest.name))
    assert not machine.variables.exists()
    assert not machine.tpm.exists()


def test_machine_that_was_made_with_uefi(lab, tmp_path):
    """Its variables come and go with it."""
    with lifecycle_parts.open_world(lab, tmp_path) as world:
        made = world.spawn(world.guest_image(hw_firmware_type="uefi"))
        variables = list((lab.root / "lib/qemu/nvram").glob(f"{made.instance.name}*"))
        assert len(variables) == 1
        world.driver.destroy(made.instance)
        assert not variables[0].exists()
        world.assert_gone(made.instance)
