# SPDX-License-Identifier: Apache-2.0
"""createBackup, as far as the host's queue."""

import pathlib
from typing import Any

import pytest

from nova_snap import exception
from nova_snap.api.policies import create_backup as rules
from nova_snap.objects.instance_action import InstanceAction
from tests.functional.api import service as svc
from tests.functional.api.service import Service


def test_what_is_recorded_and_asked_for(service: Service) -> None:
    more = {"name": "nightly", "metadata": {"purpose": "test", "backup_type": "mine"}}
    response = service.create_backup(svc.ACTIVE, 3, version="2.45", more=more)
    (image_id,) = service.images.records
    assert response.json == {"image_id": image_id}
    record = service.images.records[image_id]
    expected = {
        "name": "nightly",
        "status": "queued",
        "image_type": "backup",
        "instance_uuid": svc.ACTIVE,
        "purpose": "test",
        # The rotation goes by it: the user's metadata does not win over the parameter.
        "backup_type": "daily",
    }
    assert {key: record.get(key) for key in expected} == expected
    assert service.casts.sent == [(svc.ACTIVE, image_id)]
    assert service.casts.rotations == [("daily", 3)]
    now = service.instance(svc.ACTIVE)
    assert (now.task_state, now.snapshot_image_id) == ("image_backup", image_id)
    (action,) = InstanceAction.get_by_instance_uuid(service.context(), svc.ACTIVE)
    assert (action.action, action.finish_time) == ("createBackup", None)


@pytest.mark.parametrize("version", ["2.1", "2.45"])
def test_with_rotation_0_the_answer_names_no_image(service: Service, version: str) -> None:
    response = service.create_backup(svc.ACTIVE, 0, version=version)
    assert (response.status_int, response.body) == (202, b"")
    assert "Location" not in response.headers
    assert service.casts.rotations == [("daily", 0)]


@pytest.mark.parametrize(("given", "meant"), [("0", 0), ("7", 7), (0, 0), (2**31 - 1, 2**31 - 1)])
def test_rotations(service: Service, given: Any, meant: int) -> None:
    assert service.create_backup(svc.ACTIVE, given).status_int == 202
    assert service.casts.rotations == [("daily", meant)]


@pytest.mark.parametrize(
    "given", [-1, "-1", "", "1.5", 1.5, "one", "1\n", "\u0661", None, True, [1], "9" * 5000]
)
def test_what_is_no_rotation(service: Service, given: Any) -> None:
    response = service.create_backup(svc.ACTIVE, given)
    assert response.status_int == 400
    assert "rotation" in response.json["badRequest"]["message"]
    assert service.images.records == {}


@pytest.mark.parametrize("backup_type", ["", "daily", "every 5 minutes", "t\u00e4glich", "a,b"])
def test_any_text_is_a_type(service: Service, backup_type: str) -> None:
    response = service.create_backup(svc.ACTIVE, more={"backup_type": backup_type})
    assert response.status_int == 202
    assert service.casts.rotations == [(backup_type, 1)]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"backup_type": 7}, "backup_type"),
        ({"backup_type": None}, "backup_type"),
        ({"name": ""}, "name"),
        ({"name": " b"}, "name"),
        ({"name": "b" * 256}, "name"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"key": 7}}, "key"),
        ({"why": "not"}, "why"),
    ],
)
def test_a_body_that_breaks_a_rule(service: Service, more: dict[str, Any], field: str) -> None:
    response = service.create_backup(svc.ACTIVE, more=more)
    assert response.status_int == 400
    assert field in response.json["badRequest"]["message"]


@pytest.mark.parametrize("missing", ["name", "backup_type", "rotation"])
def test_what_must_be_there(service: Service, missing: str) -> None:
    entity = {"name": "b", "backup_type": "daily", "rotation": 1}
    del entity[missing]
    path = f"/v2.1/servers/{svc.ACTIVE}/action"
    response = service.request("POST", path, {"createBackup": entity})
    assert response.status_int == 400
    assert f"'{missing}' is a required property" in response.json["badRequest"]["message"]


@pytest.mark.parametrize(("version", "code"), [("2.38", 403), ("2.39", 202)])
def test_the_quota_of_metadata(service: Service, version: str, code: int) -> None:
    service.conf.set_override("metadata_items", 1, "quota")
    more = {"metadata": {"a": "1", "b": "2"}}
    response = service.create_backup(svc.ACTIVE, version=version, more=more)
    assert response.status_int == code


def test_the_host_cannot_be_asked(service: Service) -> None:
    service.casts.fail = exception.MessagingUnavailable(host="compute-1", reason="10.1.2.3")
    response = service.create_backup(svc.ACTIVE)
    assert response.status_int == 503
    assert service.images.records == {}
    assert service.instance(svc.ACTIVE).task_state is None
    (action,) = InstanceAction.get_by_instance_uuid(service.context(), svc.ACTIVE)
    assert action.message == (
        "The compute host of the instance cannot be reached; try again later."
    )


def test_an_administrators_backup_is_shared_with_the_owner(service: Service) -> None:
    assert service.create_backup(svc.FOREIGN, token=svc.ADMIN_TOKEN).status_int == 202
    (image_id,) = service.images.records
    assert service.images.members == {image_id: [svc.OTHER_PROJECT]}


def test_it_asks_its_rule(service: Service, tmp_path: pathlib.Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f'"{rules.CREATE_BACKUP}": "!"\n')
    service.conf.set_override("policy_file", str(policy), "oslo_policy")
    service.rebuild()
    response = service.create_backup(svc.ACTIVE)
    assert response.status_int == 403
    assert rules.CREATE_BACKUP in response.json["forbidden"]["message"]
    assert service.images.records == {}
    assert service.create_image(svc.ACTIVE).status_int == 202
