# SPDX-License-Identifier: Apache-2.0
"""New servers: what is accepted, what is refused in which words, and what is left of either."""

from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import webob

from nova_snap import exception
from nova_snap.api.schemas import server_responses
from nova_snap.api.validation import FORMATS
from nova_snap.objects import flavor
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from tests.functional.api import service as svc
from tests.functional.api.service import Service

NETWORK = "4f7b6a52-9d3c-4d57-a6d8-02a4a3d6f3f1"
OTHER_IMAGE = "33333333-3333-3333-3333-333333333333"
IMAGE_MAPPING = {
    "source_type": "image",
    "destination_type": "local",
    "boot_index": 0,
    "uuid": svc.IMAGE,
    "delete_on_termination": True,
}


@pytest.fixture
def offer(service: Service) -> Service:
    """The API with an image and a flavor for new servers."""
    service.offer()
    service.conf.set_override("networks", {NETWORK: "default"}, "api")
    return service


def check(body: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def message(response: webob.Response, code: int) -> str:
    assert response.status_int == code, response.text
    ((_, fault),) = response.json.items()
    text: str = fault["message"]
    return text


def made(service: Service) -> list[Instance]:
    """The instances that no fixture has made, oldest first."""
    found = InstanceList.get_by_filters(service.context(), InstanceFilters(name="^new"))
    return sorted(found, key=lambda instance: instance.launch_index)


@pytest.mark.parametrize("version", ["2.1", "2.18", "2.36", "2.37", "2.74", "2.90", "2.96"])
def test_a_server(offer: Service, version: str) -> None:
    response = offer.create_server(version, metadata={"a": "b"})
    assert response.status_int == 202
    check(response.json, server_responses.CREATE)
    server = response.json["server"]
    assert server["security_groups"] == [{"name": "default"}]
    assert server["OS-DCF:diskConfig"] == "MANUAL"
    assert len(server["adminPass"]) == 12
    path = f"/v2.1/servers/{server['id']}"
    assert urlsplit(response.headers["Location"]).path == path
    assert offer.casts.asked == [
        (server["id"], "build on none" if int(version[2:]) >= 37 else "build on auto")
    ]
    shown = offer.get(path).json["server"]
    assert (shown["status"], shown["name"]) == ("BUILD", "new")
    assert shown["OS-EXT-STS:task_state"] == "scheduling"
    assert shown["OS-EXT-AZ:availability_zone"] == "nova"
    assert shown["metadata"] == {"a": "b"}
    assert shown["addresses"] == {}
    assert shown["image"]["id"] == svc.IMAGE
    assert shown["flavor"]["id"] == "1"


def test_everything_that_may_be_said(offer: Service) -> None:
    response = offer.create_server(
        "2.96",
        token=svc.ADMIN_TOKEN,
        description="a word",
        accessIPv4="192.0.2.1",
        accessIPv6="2001:0db8:0000::192.0.2.1",
        hostname="the-guest.example.org",
        availability_zone="nova",
        host=svc.HOST,
        hypervisor_hostname=svc.HOST,
        networks=[{"uuid": NETWORK}],
        block_device_mapping_v2=[IMAGE_MAPPING],
        security_groups=[{"name": "default"}],
        config_drive=False,
        tags=[],
        trusted_image_certificates=None,
        adminPass="secret",
        min_count="1",
        max_count=1,
        hints={"colour": "red"},
        **{"OS-DCF:diskConfig": "AUTO"},
    )
    server = response.json["server"]
    assert server["adminPass"] == "secret"
    assert server["OS-DCF:diskConfig"] == "AUTO"
    assert offer.casts.asked == [(server["id"], "build on default")]
    shown = offer.get(f"/v2.1/servers/{server['id']}", version="2.96").json["server"]
    expected = {
        "description": "a word",
        "accessIPv4": "192.0.2.1",
        "accessIPv6": "2001:db8::c000:201",
        "OS-EXT-SRV-ATTR:hostname": "the-guest.example.org",
        "OS-EXT-AZ:availability_zone": "nova",
        "pinned_availability_zone": "nova",
        "OS-DCF:diskConfig": "AUTO",
    }
    assert {name: shown[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("networks", "network"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ([], "auto"),
        ([{"uuid": NETWORK}], "default"),
        ([{"uuid": NETWORK, "port": None}], "default"),
    ],
)
def test_networks(offer: Service, networks: object, network: str) -> None:
    response = offer.create_server("2.37", networks=networks)
    assert response.status_int == 202
    assert offer.casts.asked == [(response.json["server"]["id"], f"build on {network}")]


def test_several(offer: Service) -> None:
    response = offer.create_server(min_count=2, max_count="3")
    names = [(instance.display_name, instance.launch_index) for instance in made(offer)]
    assert names == [("new-1", 0), ("new-2", 1), ("new-3", 2)]
    assert response.json["server"]["id"] == made(offer)[0].uuid
    assert len({instance.reservation_id for instance in made(offer)}) == 1


def test_a_reservation(offer: Service) -> None:
    response = offer.create_server(return_reservation_id="True", min_count=2)
    assert response.status_int == 202
    check(response.json, server_responses.CREATE_RESERVATION)
    assert "Location" not in response.headers
    found = {instance.reservation_id for instance in made(offer)}
    assert found == {response.json["reservation_id"]}
    assert len(made(offer)) == 2


# what is asked for at which version, and what the answer says
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("2.1", {"name": ...}, "'name' is a required property"),
    ("2.1", {"name": ""}, "attribute name"),
    ("2.1", {"name": 12345}, "attribute name. Value: 12345"),
    ("2.1", {"name": "a" * 256}, "too long (at most 255 characters)"),
    ("2.1", {"imageRef": ...}, "Missing imageRef attribute"),
    ("2.1", {"imageRef": ""}, "Missing imageRef attribute"),
    ("2.1", {"imageRef": "-1"}, "attribute imageRef"),
    ("2.1", {"imageRef": OTHER_IMAGE}, f"Can not find requested image {OTHER_IMAGE}"),
    ("2.1", {"flavorRef": ...}, "'flavorRef' is a required property"),
    ("2.1", {"flavorRef": ""}, "attribute flavorRef"),
    ("2.1", {"flavorRef": "-1"}, "Flavor -1 could not be found."),
    ("2.1", {"flavorRef": -1}, "Flavor -1 could not be found."),
    ("2.1", {"flavorRef": "\0"}, "could not be found."),
    ("2.1", {"flavorRef": "f" * 1000}, "could not be found."),
    ("2.1", {"metadata": {"": "x"}}, "attribute metadata"),
    ("2.1", {"metadata": {"a": "v" * 256}}, "too long"),
    ("2.1", {"metadata": {"a": 1}}, "attribute a"),
    ("2.1", {"accessIPv4": "1.1.1.1.1.1"}, "attribute accessIPv4"),
    ("2.1", {"accessIPv6": "notvalid"}, "attribute accessIPv6"),
    ("2.1", {"accessIPv6": "fe80::1%eth0"}, "attribute accessIPv6"),
    ("2.1", {"OS-DCF:diskConfig": "auto"}, "attribute OS-DCF:diskConfig"),
    ("2.1", {"min_count": 2, "max_count": 1}, "min_count must be <= max_count"),
    ("2.1", {"min_count": 0}, "attribute min_count"),
    ("2.1", {"min_count": ""}, "attribute min_count"),
    ("2.1", {"max_count": "0"}, "attribute max_count"),
    ("2.1", {"key_name": "mine"}, "Invalid key_name provided."),
    ("2.1", {"config_drive": True}, "config_drive is not supported"),
    ("2.1", {"config_drive": "maybe"}, "attribute config_drive"),
    ("2.1", {"user_data": "YQ=="}, "user_data is not supported"),
    ("2.1", {"user_data": "@"}, "attribute user_data"),
    (
        "2.56",
        {"personality": [{"path": "/a", "contents": "YQ=="}]},
        "personality is not supported",
    ),
    ("2.56", {"personality": [{"path": "/a", "contents": "@"}]}, "attribute contents"),
    ("2.57", {"personality": []}, "'personality' was unexpected"),
    ("2.1", {"security_groups": [{"name": "web"}]}, "Security group web not found"),
    ("2.1", {"availability_zone": "moon"}, "The requested availability zone is not available"),
    ("2.1", {"block_device_mapping": [{"volume_id": svc.VOLUME}]}, "is not supported"),
    (
        "2.1",
        {"block_device_mapping_v2": [IMAGE_MAPPING, {**IMAGE_MAPPING, "boot_index": 1}]},
        "this block_device_mapping_v2 is not supported: a server has one disk",
    ),
    (
        "2.1",
        {
            "imageRef": "",
            "block_device_mapping_v2": [
                {"source_type": "volume", "destination_type": "volume", "uuid": svc.VOLUME}
            ],
        },
        "a server without an imageRef is not supported: it would boot from a volume",
    ),
    (
        "2.1",
        {"block_device_mapping_v2": [{**IMAGE_MAPPING, "destination_type": "invalid"}]},
        "attribute destination_type",
    ),
    (
        "2.1",
        {"block_device_mapping_v2": [{**IMAGE_MAPPING, "uuid": OTHER_IMAGE}]},
        "Block Device Mapping is Invalid",
    ),
    (
        "2.1",
        {"block_device_mapping_v2": [{**IMAGE_MAPPING, "volume_size": 7, "disk_bus": "ide"}]},
        "disk_bus, volume_size is not supported",
    ),
    ("2.1", {"networks": "none"}, "attribute networks"),
    ("2.1", {"networks": [{"uuid": "a-b-c"}]}, "network uuid is not in proper format (a-b-c)"),
    ("2.1", {"networks": [{}]}, "Missing 'uuid' attribute"),
    ("2.37", {"networks": ...}, "'networks' is a required property"),
    ("2.37", {"networks": "some"}, "attribute networks"),
    ("2.37", {"networks": [{"uuid": "a-b-c"}]}, "attribute networks"),
    ("2.37", {"networks": [{"uuid": OTHER_IMAGE}]}, f"Network {OTHER_IMAGE} could not be found."),
    ("2.37", {"networks": [{"uuid": NETWORK}] * 2}, "more than one network is not supported"),
    ("2.37", {"networks": [{"port": NETWORK}]}, "port of a network is not supported"),
    (
        "2.37",
        {"networks": [{"uuid": NETWORK, "fixed_ip": "10.0.0.1"}]},
        "fixed_ip of a network is not supported",
    ),
    ("2.41", {"networks": [{"uuid": NETWORK, "tag": "a"}]}, "attribute networks"),
    ("2.42", {"networks": [{"uuid": NETWORK, "tag": "a"}]}, "tag of a network is not supported"),
    ("2.18", {"description": "x"}, "'description' was unexpected"),
    ("2.19", {"description": "a\nb"}, "attribute description"),
    ("2.51", {"tags": []}, "'tags' was unexpected"),
    ("2.52", {"tags": ["a"]}, "tags is not supported"),
    ("2.52", {"tags": ["a,b"]}, "attribute tags"),
    ("2.62", {"trusted_image_certificates": ["a"]}, "was unexpected"),
    ("2.63", {"trusted_image_certificates": ["a"]}, "is not supported"),
    ("2.63", {"trusted_image_certificates": []}, "attribute trusted_image_certificates"),
    ("2.73", {"host": "a"}, "'host' was unexpected"),
    ("2.89", {"hostname": "guest"}, "'hostname' was unexpected"),
    ("2.90", {"hostname": "guest.example.org"}, "attribute hostname"),
    ("2.94", {"hostname": "guest_1"}, "attribute hostname"),
    ("2.90", {"hostname": "guest", "max_count": 2}, "Unable to allocate a single hostname"),
    ("2.1", {"colour": "red"}, "'colour' was unexpected"),
]


@pytest.mark.parametrize(
    ("version", "given", "words"), REFUSED, ids=[str(case[:2])[:60] for case in REFUSED]
)
def test_what_is_refused(offer: Service, version: str, given: dict[str, Any], words: str) -> None:
    text = message(offer.create_server(version, **given), 400)
    assert words in text
    assert len(text) < 700
    assert made(offer) == []
    assert offer.casts.asked == []


@pytest.mark.parametrize("name", ["group", "same_host", "different_host", "query"])
def test_hints_that_mean_something_are_refused(offer: Service, name: str) -> None:
    response = offer.create_server(hints={name: svc.ACTIVE})
    assert f"the scheduler hint {name} is not supported" in message(response, 400)
    assert made(offer) == []


# -- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"availability_zone": "nova:compute-1"}, "create:forced_host"),
        ({"availability_zone": "nova::compute-1"}, "create:forced_host"),
        ({"host": "compute-1"}, "create:requested_destination"),
        ({"hypervisor_hostname": "compute-1"}, "create:requested_destination"),
    ],
)
def test_only_administrators_name_a_host(offer: Service, given: dict[str, str], rule: str) -> None:
    assert rule in message(offer.create_server("2.74", **given), 403)
    assert made(offer) == []
    response = offer.create_server("2.74", token=svc.ADMIN_TOKEN, **given)
    assert response.status_int == 202
    assert [instance.host for instance in made(offer)] == [svc.HOST]


def test_two_hosts_are_too_many(offer: Service) -> None:
    response = offer.create_server("2.74", token=svc.ADMIN_TOKEN, host="a", hypervisor_hostname="b")
    assert message(response, 400) == "More than one host is named: a, b"


def test_a_host_that_is_none(offer: Service) -> None:
    """As with Nova, the server is there, and its fault says why it is no good."""
    response = offer.create_server("2.74", token=svc.ADMIN_TOKEN, host="elsewhere")
    shown = offer.get(f"/v2.1/servers/{response.json['server']['id']}").json["server"]
    assert shown["status"] == "ERROR"
    assert "No valid host was found." in shown["fault"]["message"]
    assert shown["fault"]["code"] == 500


def test_a_flavor_without_a_disk_is_for_administrators(offer: Service) -> None:
    flavor.Flavor("0", "no.disk", 512, 1, 0).create(offer.context())
    text = message(offer.create_server(flavorRef="0"), 403)
    assert text.startswith("Only volume-backed servers are allowed for flavors with zero disk")
    assert offer.create_server(flavorRef="0", token=svc.ADMIN_TOKEN).status_int == 202


def test_a_private_flavor_does_not_exist(offer: Service) -> None:
    flavor.Flavor("9", "secret", 512, 1, 1, is_public=False).create(offer.context())
    assert message(offer.create_server(flavorRef="9"), 400) == "Flavor 9 could not be found."


# -- limits ------------------------------------------------------------------------------------


def test_quotas(offer: Service) -> None:
    offer.conf.set_override("cores", 8, "quota")
    text = message(offer.create_server(min_count=4), 403)
    # Six of the project's instances have a core each.
    assert text == "Quota exceeded for cores: Requested 4, but already used 6 of 8 cores"
    assert made(offer) == []
    assert offer.create_server(min_count=1, max_count=4).status_int == 202
    assert len(made(offer)) == 2


def test_the_quota_of_metadata(offer: Service) -> None:
    offer.conf.set_override("metadata_items", 1, "quota")
    text = message(offer.create_server(metadata={"a": "1", "b": "2"}), 403)
    assert text == "Maximum number of metadata items exceeds 1"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"status": "queued"}, f"Image {svc.IMAGE} is not active."),
        ({"status": "deactivated"}, f"Image {svc.IMAGE} is not active."),
        ({"min_ram": 513}, "Flavor's memory is too small for requested image"),
        ({"min_disk": 2}, "Flavor's disk is smaller than the minimum size specified"),
        ({"size": 2**31}, "Flavor's disk is too small for requested image."),
    ],
)
def test_images_that_do_not_fit(offer: Service, record: dict[str, Any], words: str) -> None:
    offer.images.records[svc.IMAGE].update(record)
    assert words in message(offer.create_server(), 400)
    assert made(offer) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exception.ImageServiceUnavailable(endpoint="http://x", reason="refused"), 503),
        (exception.ImageServiceError(reason="500"), 502),
        (exception.ImageForbidden(image_id=svc.IMAGE, reason="no"), 403),
    ],
)
def test_an_image_service_that_fails(offer: Service, error: Exception, code: int) -> None:
    offer.images.fail["get"] = error
    assert message(offer.create_server(), code)
    assert made(offer) == []


def test_no_messages(offer: Service) -> None:
    offer.casts.fail = exception.MessagingUnavailable(host=svc.HOST, reason="no broker")
    response = offer.create_server()
    assert message(response, 503)
    assert response.headers["Retry-After"]
    assert made(offer) == []
