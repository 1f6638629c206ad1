# SPDX-License-Identifier: Apache-2.0
"""What a host's libvirt and hypervisor can do."""

import dataclasses


def version_number(major: int, minor: int, micro: int = 0) -> int:
    """A version as libvirt counts it: 9.0.0 is 9000000."""
    return major * 1_000_000 + minor * 1_000 + micro


def version_text(number: int) -> str:
    """The version that :func:`version_number` made, as people write it."""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


MIN_LIBVIRT_LIVESNAPSHOT_VERSION = version_number(1, 0, 0)
MIN_QEMU_LIVESNAPSHOT_VERSION = version_number(1, 3, 0)

# Where libvirt's documentation says that a flag appeared.
TRANSIENT_BLOCK_COPY_VERSION = version_number(3, 5, 0)
KEEP_NVRAM_VERSION = version_number(2, 3, 0)
KEEP_TPM_VERSION = version_number(8, 9, 0)
BACKUP_VERSION = version_number(7, 2, 0)
AGENT_TIMEOUT_VERSION = version_number(5, 10, 0)


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """:ivar hypervisor: as libvirt names the connection's driver, such as ``QEMU`` or ``LXC``.

    :ivar libvirt_version: of the daemon, not of the client library.
    :ivar hypervisor_version: such as QEMU's, in the same notation.
    """

    hypervisor: str
    libvirt_version: int
    hypervisor_version: int

    @property
    def can_block_copy(self) -> bool:
        """A disk of a running guest can be copied while the guest writes to it."""
        return (
            self.hypervisor == "QEMU"
            and self.libvirt_version >= MIN_LIBVIRT_LIVESNAPSHOT_VERSION
            and self.hypervisor_version >= MIN_QEMU_LIVESNAPSHOT_VERSION
        )

    @property
    def can_backup(self) -> bool:
        """A disk of a running guest can be read as of one moment."""
        return self.hypervisor == "QEMU" and self.libvirt_version >= BACKUP_VERSION

    @property
    def has_transient_block_copy(self) -> bool:
        """A block copy is allowed while the domain is persistent (the job itself is not)."""
        return self.libvirt_version >= TRANSIENT_BLOCK_COPY_VERSION

    @property
    def can_keep_nvram(self) -> bool:
        return self.libvirt_version >= KEEP_NVRAM_VERSION

    @property
    def can_keep_tpm(self) -> bool:
        return self.libvirt_version >= KEEP_TPM_VERSION

    @property
    def has_agent_timeout(self) -> bool:
        """libvirt itself can bound the wait for a guest's agent."""
        return self.libvirt_version >= AGENT_TIMEOUT_VERSION
