# SPDX-License-Identifier: Apache-2.0
"""Who sees a server's attributes that tell of the infrastructure. The name is Nova's."""

from typing import Final

from nova_snap.api.policies import base

EXTENDED_ATTRIBUTES: Final = "os_compute_api:os-extended-server-attributes"

RULES = [
    base.rule(
        EXTENDED_ATTRIBUTES,
        base.ADMIN,
        """See the OS-EXT-SRV-ATTR attributes of a server.

host, hypervisor_hostname and instance_name always; hostname, kernel_id, launch_index, ramdisk_id,
reservation_id, root_device_name and user_data from microversion 2.3 on. From 2.90 on everyone sees
hostname.""",
        ("GET", "/servers/{server_id}"),
        ("GET", "/servers/detail"),
        ("PUT", "/servers/{server_id}"),
    ),
]
