# SPDX-License-Identifier: Apache-2.0
"""What requests for servers look like."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    METADATA,
    NAME,
    QUERY_NUMBER,
    QUERY_REGEX,
    QUERY_STRING,
    QUERY_TIME,
    Schema,
    array_of,
    closed,
    words,
)

CREATE_IMAGE: Final = closed(
    {"createImage": closed({"name": NAME, "metadata": METADATA}, required=["name"])}
)

_EXACT = words(
    "user_id project_id tenant_id launch_index image_ref image vm_state task_state host uuid "
    "sort_dir all_tenants soft_deleted deleted status marker"
)

_EXPRESSIONS = words(
    "kernel_id ramdisk_id hostname key_name power_state node flavor reservation_id launched_at "
    "terminated_at availability_zone name display_name description display_description locked_by "
    "root_device_name config_drive access_ip_v4 access_ip_v6 auto_disk_config progress ip ip6 "
    "created_at"
)

TAG_FILTERS: Final = ("tags", "tags-any", "not-tags", "not-tags-any")

# Names that Nova once took for filters and now refuses.
JOINED: Final = words(
    "block_device_mapping services metadata system_metadata info_cache security_groups pci_devices"
)

SORT_KEYS: Final = words(
    "access_ip_v4 access_ip_v6 auto_disk_config availability_zone config_drive created_at "
    "display_description display_name host hostname image_ref instance_type_id kernel_id key_name "
    "launch_index launched_at locked_by node power_state progress project_id ramdisk_id "
    "root_device_name task_state terminated_at updated_at user_id uuid vm_state"
)

# Nova takes these up to 2.74 and sorts by none of them.
IGNORED_SORT_KEYS: Final = words(
    "architecture cell_name cleaned default_ephemeral_device default_swap_device deleted "
    "deleted_at disable_terminate ephemeral_gb ephemeral_key_uuid id key_data launched_on locked "
    "memory_mb os_type reservation_id root_gb shutdown_terminate user_data vcpus vm_mode"
)


@functools.cache
def list_query(version: Microversion) -> Schema:
    """The query string of ``/servers`` and ``/servers/detail``."""
    strict = version.at_least(75)
    sort_keys = list(SORT_KEYS)
    if version.at_least(73):
        sort_keys.append("locked")
    if not strict:
        sort_keys += IGNORED_SORT_KEYS
    properties: Schema = dict.fromkeys((*_EXACT, *JOINED), QUERY_STRING)
    properties.update(dict.fromkeys(_EXPRESSIONS, QUERY_REGEX))
    properties["limit"] = QUERY_NUMBER
    properties["sort_key"] = array_of({"enum": sort_keys})
    properties["changes-since"] = QUERY_TIME
    if version.at_least(26):
        properties.update(dict.fromkeys(TAG_FILTERS, QUERY_REGEX))
    if version.at_least(66):
        properties["changes-before"] = QUERY_TIME
    if version.at_least(73):
        properties["locked"] = QUERY_STRING
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": not strict,
    }
