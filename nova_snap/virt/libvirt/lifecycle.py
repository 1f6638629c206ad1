# SPDX-License-Identifier: Apache-2.0
"""The life of libvirt guests, put together from the modules beside this one."""

from nova_snap.virt import driver


class LibvirtLifecycle(driver.ComputeDriver):
    """The part of the driver that makes, ends and switches instances."""

    def spawn(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def destroy(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def power_on(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def power_off(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def reboot(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def pause(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def unpause(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def suspend(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def resume(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def get_console_output(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def on_lifecycle_event(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def host_resources(self, *_arguments: object) -> None:  # type: ignore[override]
        raise NotImplementedError
