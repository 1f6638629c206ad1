# SPDX-License-Identifier: Apache-2.0
"""A Cinder that asks a real Keystone: the user's token and catalog, and the service's own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
import requests
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.volume import cinder as volume_cinder
from tests.fixtures.cinder import Cinder
from tests.fixtures.keystone import Keystone
from tests.fixtures.keystone_directory import Cast, Person


@pytest.fixture(scope="module")
def keystone_cinder(start_cinder: Callable[..., Cinder], keystone: Keystone) -> Cinder:
    return start_cinder(keystone=keystone)


@pytest.fixture
def cast(keystone: Keystone) -> Cast:
    return keystone.directory.cast()


@pytest.fixture
def volume(keystone_cinder: Cinder) -> Iterator[str]:
    client = keystone_cinder.client("shop")
    made = client.create_volume(1)
    yield made
    client.delete_volume(made)


@pytest.fixture
def volumes(conf: cfg.ConfigOpts, keystone: Keystone, cast: Cast) -> volume_cinder.API:
    conf.set_override("auth_strategy", "keystone", "api")
    options = keystone.directory.auth_options(cast.service)
    # Those of the plugin are known only when it is loaded.
    path = conf.state_path + ".conf"
    with open(path, "w", encoding="utf-8") as file:
        file.write("[service_user]\n")
        file.writelines(f"{name} = {value}\n" for name, value in options.items())
    conf(["--config-file", path], project="nova_snap")
    return volume_cinder.API(conf)


def context_of(keystone: Keystone, person: Person) -> RequestContext:
    """What the API makes of a user's token."""
    token = keystone.directory.token(person)
    answer = requests.get(
        f"{keystone.url}/auth/tokens",
        headers={"X-Auth-Token": token, "X-Subject-Token": token},
        timeout=30,
    )
    services = answer.json()["token"]["catalog"]
    catalog = [
        {
            "type": service["type"],
            "name": service["name"],
            "endpoints": [
                {f"{each['interface']}URL": each["url"], "region": each["region"]}
                for each in service["endpoints"]
            ],
        }
        for service in services
    ]
    return RequestContext(
        auth_token=token,
        user_id=person.id,
        project_id=person.project_id,
        service_catalog=catalog,
        overwrite=False,
    )


def test_a_member_and_the_service_that_comes_after_him(
    keystone: Keystone, cast: Cast, volumes: volume_cinder.API, volume: str
) -> None:
    """The member's snapshot is found, and deleted, by a service that nobody has sent."""
    context = context_of(keystone, cast.member)
    assert volumes.get_volume(context, volume).size == 1
    limits = volumes.get_snapshot_limits(context)
    image_id = str(uuid.uuid4())
    made = volumes.create_snapshot_force(context, volume, "a", None, image_id, 30)
    assert (made.volume_id, made.image_id) == (volume, image_id)
    until = time.monotonic() + 30
    while volumes.get_snapshot(context, made.id, 30).status == "creating":
        assert time.monotonic() < until
        time.sleep(0.2)
    assert volumes.get_snapshot_limits(context).used == limits.used + 1
    service = get_admin_context()
    (found,) = volumes.snapshots_for_image(service, volume, image_id)
    assert (found.id, found.status) == (made.id, "available")
    volumes.delete_snapshot(service, made.id)
    while volumes.snapshots_for_image(service, volume, image_id):
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_stranger(
    keystone: Keystone, cast: Cast, volumes: volume_cinder.API, volume: str
) -> None:
    context = context_of(keystone, cast.stranger)
    with pytest.raises(exception.VolumeNotFound):
        volumes.get_volume(context, volume)
    with pytest.raises(exception.VolumeNotFound):
        volumes.create_snapshot_force(context, volume, "a", None, str(uuid.uuid4()), 30)


def test_a_token_that_is_none(
    keystone: Keystone, cast: Cast, volumes: volume_cinder.API, volume: str
) -> None:
    context = context_of(keystone, cast.member)
    context.auth_token = "none"
    with pytest.raises(exception.VolumeForbidden, match="401"):
        volumes.get_volume(context, volume)
