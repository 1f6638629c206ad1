# SPDX-License-Identifier: Apache-2.0
"""Who sees a server's attributes that tell of the infrastructure. The name is Nova's."""

from typing import Final

from oslo_policy import policy

from nova_snap.api.policies import base

EXTENDED_ATTRIBUTES: Final = "os_compute_api:os-extended-server-attributes"

RULES = [
    policy.DocumentedRuleDefault(
        name=EXTENDED_ATTRIBUTES,
        check_str=base.ADMIN,
        description="""See the OS-EXT-SRV-ATTR attributes of a server.

host, hypervisor_hostname and instance_name always; hostname, kernel_id, launch_index, ramdisk_id,
reservation_id, root_device_name and user_data from microversion 2.3 on. From 2.90 on everyone sees
hostname.""",
        operations=[
            {"method": "GET", "path": "/servers/{server_id}"},
            {"method": "GET", "path": "/servers/detail"},
        ],
        scope_types=["project"],
    ),
]
