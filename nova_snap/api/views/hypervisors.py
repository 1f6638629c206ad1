# SPDX-License-Identifier: Apache-2.0
"""Hypervisors as clients see them, by microversion."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from oslo_config import cfg

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.hypervisors import USAGE
from nova_snap.api.views.services import state_of, status_of
from nova_snap.objects.instance import Instance
from nova_snap.objects.service import ComputeNode

View = dict[str, Any]

# Where the hypervisor has not yet said what it is.
_UNKNOWN_TYPE: Final = "unknown"
_NO_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - it says that there is none


class ViewBuilder:
    """Makes the views of one request."""

    def __init__(self, conf: cfg.ConfigOpts, version: Microversion) -> None:
        self._conf = conf
        self._version = version

    def basic(self, node: ComputeNode) -> View:
        """What ``/os-hypervisors`` shows."""
        return {
            "id": self._id(node),
            "hypervisor_hostname": node.hypervisor_hostname,
            "state": state_of(node.service, self._conf.service_down_time),
            "status": status_of(node.service),
        }

    def detail(self, node: ComputeNode, instances: Sequence[Instance]) -> View:
        """What ``/os-hypervisors/detail`` and ``/os-hypervisors/{hypervisor_id}`` show.

        :param instances: those that are on the host.
        """
        found = node.resources
        service = node.service
        view = self.basic(node)
        view.update(
            host_ip=found.get("host_ip") or _NO_ADDRESS,
            hypervisor_type=found.get("hypervisor_type", _UNKNOWN_TYPE),
            hypervisor_version=found.get("hypervisor_version", 0),
            service={
                "host": service.host,
                "id": service.uuid if self._version.at_least(53) else service.id,
                "disabled_reason": service.disabled_reason,
            },
        )
        if self._version.at_least(88):
            view["uptime"] = found.get("uptime")
            return view
        view.update(usage(node, instances))
        cpu_info = found.get("cpu_info", {})
        view["cpu_info"] = cpu_info if self._version.at_least(28) else json.dumps(cpu_info)
        return view

    def with_servers(self, view: View, instances: Iterable[Instance]) -> View:
        """The view with the servers on the host; below 2.75 the empty list is left out."""
        servers = [{"name": each.name, "uuid": each.uuid} for each in instances]
        if servers or self._version.at_least(75):
            view["servers"] = servers
        return view

    def uptime(self, node: ComputeNode) -> View:
        """What ``/os-hypervisors/{hypervisor_id}/uptime`` shows."""
        return {**self.basic(node), "uptime": node.resources.get("uptime")}

    def _id(self, node: ComputeNode) -> int | str:
        return node.uuid if self._version.at_least(53) else node.id


def usage(node: ComputeNode, instances: Sequence[Instance]) -> dict[str, int | None]:
    """What the host has and what of it is used, by Nova's names.

    Memory and disk in use are what the host says; virtual CPUs are those of its instances.
    """
    found = node.resources

    def number(name: str) -> int:
        return int(found.get(name, 0))

    return {
        "vcpus": number("vcpus"),
        "vcpus_used": sum(each.flavor.vcpus for each in instances),
        "memory_mb": number("memory_mb"),
        "memory_mb_used": number("memory_mb_used"),
        "free_ram_mb": number("memory_mb") - number("memory_mb_used"),
        "local_gb": number("local_gb"),
        "local_gb_used": number("local_gb_used"),
        "free_disk_gb": number("local_gb") - number("local_gb_used"),
        "disk_available_least": found.get("disk_available_gb"),
        "running_vms": number("running_vms"),
        "current_workload": sum(each.task_state is not None for each in instances),
    }


def statistics(nodes: Sequence[tuple[ComputeNode, Sequence[Instance]]]) -> View:
    """The sums over all the hosts."""
    each = [usage(node, instances) for node, instances in nodes]
    sums: View = {name: sum(found[name] or 0 for found in each) for name in USAGE}
    return {"count": len(nodes), **sums}
