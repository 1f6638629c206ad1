# SPDX-License-Identifier: Apache-2.0
"""What the host has, and how much of that its guests use."""

import datetime
import os
from collections.abc import Mapping
from typing import Any

import libvirt
from lxml import etree
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import chain, domain_xml
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)


def read(host: Host, files: InstanceFiles) -> driver.HostResources:
    """See :meth:`nova_snap.virt.driver.ComputeDriver.host_resources`."""
    found = host.capabilities()
    hostname = host.ask("getHostname", "", lambda connection: connection.getHostname())
    # model, memory in MiB, CPUs, MHz, NUMA nodes, sockets, cores, threads
    node = host.ask("getInfo", "", lambda connection: connection.getInfo())
    capabilities = host.ask("getCapabilities", "", lambda connection: connection.getCapabilities())
    virtual_cpus = host.ask("listAllDomains", "", _virtual_cpus)
    total_mb, available_mb = memory_mb()
    files.prepare()
    disk = os.statvfs(files.root)
    free = disk.f_bavail * disk.f_frsize
    return driver.HostResources(
        hostname=hostname,
        hypervisor_type=found.hypervisor,
        hypervisor_version=found.hypervisor_version,
        vcpus=node[2],
        vcpus_used=sum(virtual_cpus),
        memory_mb=total_mb,
        memory_mb_used=total_mb - available_mb,
        local_gb=disk.f_blocks * disk.f_frsize // units.Gi,
        local_gb_used=(disk.f_blocks - disk.f_bfree) * disk.f_frsize // units.Gi,
        disk_available_gb=(free - _promised(files)) // units.Gi,
        running_vms=len(virtual_cpus),
        cpu_info=cpu_info(capabilities),
        uptime=uptime(datetime.datetime.now()),
    )


def _virtual_cpus(connection: Any) -> list[int]:
    """How many virtual CPUs each guest has that has a process."""
    found = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            found.append(int(domain.info()[3]))
        except libvirt.libvirtError as exc:
            # It has just ended.
            LOG.debug("Domain %s is not counted: %s", domain.name(), exc)
    return found


def _promised(files: InstanceFiles) -> int:
    """Bytes that the disks of instances have yet to take of the file system."""
    total = 0
    for path in files.disks():
        try:
            size = chain.read_file(path, "qcow2")[0].virtual_size
            total += max(0, size - os.stat(path).st_blocks * 512)
        except (exception.UnsafeDisk, FileNotFoundError) as exc:
            LOG.debug("Disk %s is not counted: %s", path, exc)
    return total


def memory_mb(path: str = "/proc/meminfo") -> tuple[int, int]:
    """MiB of the host's memory, and how many of them could be used without swapping."""
    values = {}
    with open(path) as file:
        for line in file:
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0])
    return values["MemTotal"] // units.Ki, values["MemAvailable"] // units.Ki


def cpu_info(capabilities: str) -> Mapping[str, Any]:
    """The host's CPU, by the names that Nova has for what it is.

    :param capabilities: libvirt's XML.
    """
    cpu = domain_xml.read_root(capabilities, "", "capabilities").find("host/cpu")
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    return {
        "arch": cpu.findtext("arch"),
        "model": cpu.findtext("model"),
        "vendor": cpu.findtext("vendor"),
        "topology": {} if topology is None else _numbers(topology),
        "features": sorted(
            str(feature.get("name")) for feature in cpu.iterfind("feature") if feature.get("name")
        ),
    }


def _numbers(topology: etree._Element) -> dict[str, int]:
    names = {"sockets": "sockets", "cores": "cores", "threads": "threads", "dies": "dies"}
    return {ours: int(value) for theirs, ours in names.items() if (value := topology.get(theirs))}


def uptime(now: datetime.datetime, path: str = "/proc/uptime") -> str:
    """Since when the host is up, as the ``uptime`` command says it, but for the users."""
    with open(path) as file:
        seconds = int(float(file.read().split()[0]))
    days, rest = divmod(seconds, 24 * 3600)
    hours, minutes = rest // 3600, rest % 3600 // 60
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{now:%H:%M:%S} up {days} days, {hours:2d}:{minutes:02d},  load average: {load}"
