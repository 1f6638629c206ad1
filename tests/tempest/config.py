# SPDX-License-Identifier: Apache-2.0
"""Tempest's configuration for a cloud: what there is, and what there is not."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

from tests.fixtures.cloud import FLAVORS, IMAGES, Cloud
from tests.fixtures.keystone_directory import REGION

# What the compute service of this cloud does and does not do; Tempest skips what wants the latter.
FEATURES = {
    "attach_encrypted_volume": False,
    "change_password": False,
    "cold_migration": False,
    "config_drive": False,
    "console_output": True,
    "enable_instance_password": True,
    "interface_attach": False,
    "live_migration": False,
    "metadata_service": False,
    "pause": True,
    "personality": False,
    "rescue": False,
    "resize": False,
    "serial_console": False,
    "shelve": False,
    "snapshot": True,
    "suspend": True,
    "vnc_console": False,
    "xenapi_apis": False,
}


def write_config(path: Path, cloud: Cloud) -> None:
    """Write a ``tempest.conf`` beside which the run may keep its own files."""
    parser = configparser.RawConfigParser()
    parser.read_dict(_settings(path, cloud))
    with path.open("w") as file:
        parser.write(file)


def _settings(path: Path, cloud: Cloud) -> dict[str, dict[str, Any]]:
    admin = cloud.keystone.directory.admin
    with cloud.connection("admin") as connection:
        image, other = (connection.image.find_image(name, False).id for name in IMAGES)
        extensions = ",".join(sorted(each.alias for each in connection.compute.extensions()))
    return {
        "DEFAULT": {"log_file": path.with_name("tempest.log"), "debug": True},
        "auth": {
            "admin_username": admin.name,
            "admin_password": admin.password,
            "admin_project_name": admin.project,
            "admin_domain_name": "Default",
            "use_dynamic_credentials": True,
            "create_isolated_networks": False,
            "tempest_roles": "member",
        },
        "compute": {
            "region": REGION,
            "image_ref": image,
            "image_ref_alt": other,
            "flavor_ref": FLAVORS[0].flavor_id,
            "flavor_ref_alt": FLAVORS[1].flavor_id,
            "min_microversion": "2.1",
            "max_microversion": "2.96",
            "build_interval": 1,
            "build_timeout": 180,
        },
        "compute-feature-enabled": {"api_extensions": extensions, **FEATURES},
        # Has what only looks done by users who are but readers of the project.
        "enforce_scope": {"nova": True, "glance": True},
        "identity": {
            "auth_version": "v3",
            "region": REGION,
            "uri_v3": cloud.keystone.url,
            "v3_endpoint_type": "public",
        },
        "image": {"region": REGION, "build_interval": 1, "build_timeout": 180},
        # There is none, but Tempest skips nearly all tests of servers where service_available says
        # so. Those in scope never ask it. Tempest itself looks for security groups when it deletes
        # a project, which is fine with 404; it gets that of the compute service.
        "network": {"catalog_type": "compute", "region": REGION},
        "oslo_concurrency": {"lock_path": path.with_name("locks")},
        "service_available": {
            "cinder": False,
            "glance": True,
            "horizon": False,
            "neutron": True,
            "nova": True,
            "swift": False,
        },
        # Guests have no network: nobody can log in to them.
        "validation": {"run_validation": False},
    }
