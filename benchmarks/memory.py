# SPDX-License-Identifier: Apache-2.0
"""How much memory the service takes for a small and for a large disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.content import MIB, make_shared
from benchmarks.figures import Figure, Plan, Unusable
from benchmarks.laboratory import Laboratory
from benchmarks.measure import peak_memory
from benchmarks.sink import Sink
from tests.fixtures.deployment import Deployment, Options
from tests.fixtures.domain_xml import NovaMetadata, nova_metadata_xml
from tests.fixtures.libvirt_lab import LibvirtLab

MOST = 200 * MIB
MOST_APART = 20 * MIB
SNAPSHOT_SECONDS = 600
COMMAND = "nova-snap-all"


def memory(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """VmHWM of nova-snap-all, API and compute service in one process, started anew for each."""
    sizes = (plan.allocated, plan.large)
    with Sink() as sink:
        found = [_peak(laboratory.directory, sink, size) for size in sizes]
    amounts = " and ".join(f"{size / 1024:g} GiB" for size in sizes)
    yield Figure(
        "memory",
        f"peak RSS of {COMMAND}, {amounts} allocated",
        " and ".join(f"{peak / MIB:.0f} MiB" for peak in found),
        "within 20 MiB of each other, under 200 MiB",
        max(found) < MOST and max(found) - min(found) <= MOST_APART,
        {"bytes": found},
    )


def _peak(parent: Path, sink: Sink, allocated: int) -> int:
    """:param allocated: in MiB."""
    directory = parent / "memory"
    directory.mkdir()
    try:
        with LibvirtLab(parent / "m") as lab:
            return _snapshot(lab, directory, sink, allocated)
    finally:
        shutil.rmtree(directory)


def _snapshot(lab: LibvirtLab, directory: Path, sink: Sink, allocated: int) -> int:
    disk = lab.instances / "disk"
    make_shared(disk, max(allocated * MIB, 4 << 30), allocated * MIB)
    metadata = nova_metadata_xml(NovaMetadata(user_id="kim", project_id="shop"))
    guest = lab.define_guest("memory", disk, disk_format="qcow2", metadata_xml=metadata)
    guest.start()
    libvirt = {
        "connection_uri": lab.uri,
        "virt_type": "qemu",
        "snapshot_method": "stream",
        "snapshot_socket_directory": lab.root,
    }
    options: Options = {"libvirt": libvirt, "glance": {"api_servers": sink.url}}
    deployment = Deployment(directory, options, [COMMAND])
    deployment.manage("db", "sync")
    deployment.manage("instance", "adopt", "--all")
    with deployment:
        deployment.start()
        client = deployment.client()
        image_id = client.create_image(guest.uuid, "memory")
        client.wait_until_free(guest.uuid, SNAPSHOT_SECONDS)
        record = sink.image(image_id)
        pid = deployment.services[COMMAND].pid
        if record["status"] != "active" or record["size"] < allocated * MIB or pid is None:
            raise Unusable(f"no image of {allocated} MiB: {record}\n{deployment.log()[-4000:]}")
        return peak_memory(pid)
