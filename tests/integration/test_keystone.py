# SPDX-License-Identifier: Apache-2.0
"""A real Keystone says who asks, the API and a real Glance believe it, and so do the snapshots."""

import io
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from oslo_config import cfg
from oslo_db import options as db_options

from nova_snap import conf as nova_conf
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.image import glance as image_glance
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.fake import snapshot_data
from tests.fixtures.deployment import BIN, Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.keystone import Keystone
from tests.fixtures.keystone_directory import Cast, Directory, Person
from tests.fixtures.service import make_instance

SIZE = 300_000
LIFE = 12
DELAY = 5
# Every Fernet token begins like this.
TOKEN = "gAAAAA"

Options = dict[str, dict[str, Any]]


def options_for(directory: Directory, cast: Cast) -> Options:
    """nova_snap with a Keystone, its user, and whatever image service the catalog has."""
    me = directory.auth_options(cast.service)
    return {
        "DEFAULT": {"compute_driver": "fake.FakeDriver"},
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": {"www_authenticate_uri": directory.url, **me},
        "service_user": me,
        "fake": {"snapshot_size": SIZE},
    }


class Cloud:
    """A nova_snap of this module, and its database."""

    def __init__(
        self, directory: Path, keystone: Keystone, glance: Glance, extra: Options | None = None
    ) -> None:
        self.keystone, self.glance = keystone, glance
        self.directory = keystone.directory
        self.cast = self.directory.cast()
        options = options_for(self.directory, self.cast)
        for group, values in (extra or {}).items():
            options[group] = {**options.get(group, {}), **values}
        self.deployment = Deployment(directory, options)
        self.conf = cfg.ConfigOpts()
        nova_conf.register_opts(self.conf)
        self.conf.register_opts(db_options.database_opts, group="database")
        self.conf([], default_config_files=[str(self.deployment.config)])
        self.conf.set_override(
            "connection", f"sqlite:///{directory}/state/nova_snap.sqlite", "database"
        )

    def __enter__(self) -> "Cloud":
        self.deployment.start()
        self.database = Database(self.conf)
        return self

    def __exit__(self, *error: object) -> None:
        self.database.close()
        self.deployment.stop()

    def instance(self) -> Instance:
        """One more server of the member's project."""
        context = get_admin_context(self.database)
        return make_instance(context, project_id=self.cast.member.project_id)

    def action(self, instance: Instance) -> InstanceAction:
        """The last thing that was done to it."""
        context = get_admin_context(self.database)
        return InstanceAction.get_by_instance_uuid(context, instance.uuid)[0]

    def image(self, image_id: str) -> tuple[dict[str, Any], bytes]:
        """The member's view of an image, and its data."""
        record = self.glance.client_of(self.cast.member).images.get(image_id)
        data = self.glance.client_of(self.cast.member).images.data(image_id)
        return dict(record), b"".join(data)

    def image_ids(self) -> list[str]:
        client = self.glance.client_of(self.cast.member)
        return [image["id"] for image in client.images.list()]


@pytest.fixture(scope="module")
def cloud(
    tmp_path_factory: pytest.TempPathFactory, keystone: Keystone, keystone_glance: Glance
) -> Iterator[Cloud]:
    place = tmp_path_factory.mktemp("nova-snap")
    everything: dict[str, Any] = {
        "debug": True,
        "default_log_levels": "glanceclient=DEBUG,keystoneauth=DEBUG",
    }
    with Cloud(place, keystone, keystone_glance, {"DEFAULT": everything}) as made:
        yield made


@pytest.fixture(scope="module")
def hasty(
    start_keystone: Callable[..., Keystone], start_glance: Callable[..., Glance]
) -> tuple[Keystone, Glance]:
    """A Keystone whose tokens live for a few seconds, and its Glance."""
    keystone = start_keystone(token_seconds=LIFE)
    return keystone, start_glance("keystone", keystone=keystone)


def fault(answer: requests.Response) -> tuple[int, str, str]:
    """Code, name and message of an error in Nova's shape."""
    ((name, body),) = answer.json().items()
    assert body["code"] == answer.status_code
    return answer.status_code, name, body["message"]


class TestWhoAsks:
    @pytest.mark.parametrize("token", [None, "made-up", "gAAAAAmade-up", "\xe9 b", "a" * 10_000])
    def test_without_a_good_token_the_answer_says_where_to_get_one(
        self, cloud: Cloud, token: str | None
    ) -> None:
        answer = cloud.deployment.client_with(token).get("/servers")
        code, name, message = fault(answer)
        assert (code, name) == (401, "unauthorized")
        assert ("no X-Auth-Token" in message) == (token is None)
        assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.keystone.url}"'
        assert answer.headers["X-Compute-Request-Id"].startswith("req-")

    def test_a_revoked_token_is_no_token(self, cloud: Cloud) -> None:
        # Not used before: what keystonemiddleware found is kept for token_cache_time.
        token = cloud.directory.token(cloud.cast.member)
        cloud.directory.end_token(token)
        assert fault(cloud.deployment.client_with(token).get("/servers"))[0] == 401

    @pytest.mark.parametrize("path", ["/", "/v2.1", "/v2.1/", "/healthcheck"])
    @pytest.mark.parametrize("token", ["", "made-up"])
    def test_whoever_looks_for_the_api_finds_it(self, cloud: Cloud, path: str, token: str) -> None:
        headers = {"X-Auth-Token": token} if token else {}
        answer = requests.get(f"{cloud.deployment.url}{path}", headers=headers, timeout=30)
        assert answer.ok

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("unscoped_token", "not of any project or domain"),
            ("domain_token", "of the domain default"),
            ("system_token", "of the system"),
        ],
    )
    def test_a_token_must_be_of_a_project(self, cloud: Cloud, kind: str, words: str) -> None:
        cloud.directory.grant_domain(cloud.cast.admin, "admin")
        token = getattr(cloud.directory, kind)(cloud.cast.admin)
        code, _, message = fault(cloud.deployment.client_with(token).get("/servers"))
        assert code == 403
        assert words in message

    def test_headers_that_only_keystone_may_set_are_not_believed(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        token = cloud.directory.token(cloud.cast.stranger)
        answer = cloud.deployment.client_with(token).get(
            f"/servers/{instance.uuid}",
            **{
                "X-Roles": "admin",
                "X-Project-Id": cloud.cast.member.project_id,
                "X-Identity-Status": "Confirmed",
                "X-Is-Admin-Project": "true",
            },
        )
        assert fault(answer)[0] == 404

    def test_a_service_token_of_somebody_who_is_no_service_is_refused(self, cloud: Cloud) -> None:
        token = cloud.directory.token(cloud.cast.member)
        client = cloud.deployment.client_with(token)
        code, _, message = fault(client.get("/servers", **{"X-Service-Token": token}))
        assert code == 401
        assert "X-Service-Token" in message

    def test_a_service_may_ask_for_a_user(self, cloud: Cloud) -> None:
        token = cloud.directory.token(cloud.cast.member)
        service = cloud.directory.token(cloud.cast.service)
        client = cloud.deployment.client_with(token)
        assert client.get("/servers", **{"X-Service-Token": service}).status_code == 200


class TestSnapshots:
    def test_a_member_takes_one(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.member))
        image_id = client.create_image(instance.uuid, "snap", color="red")
        client.wait_until_free(instance.uuid)
        record, data = cloud.image(image_id)
        assert (record["status"], record["owner"]) == ("active", cloud.cast.member.project_id)
        assert (record["user_id"], record["color"]) == (cloud.cast.member.id, "red")
        assert data == snapshot_data(instance.uuid, SIZE)

    def test_the_location_is_the_catalogs(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        token = cloud.directory.token(cloud.cast.member)
        client = cloud.deployment.client_with(token, "2.1")
        answer = client.post(
            f"/servers/{instance.uuid}/action", {"createImage": {"name": "located"}}
        )
        assert answer.status_code == 202
        assert answer.headers["Location"].startswith(f"{cloud.glance.url}/images/")
        client.wait_until_free(instance.uuid)

    def test_a_reader_may_only_look(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.reader))
        assert client.server(instance.uuid)["id"] == instance.uuid
        before = cloud.image_ids()
        answer = client.post(f"/servers/{instance.uuid}/action", {"createImage": {"name": "no"}})
        code, _, message = fault(answer)
        assert (code, message) == (
            403,
            "Policy doesn't allow os_compute_api:servers:create_image to be performed.",
        )
        assert cloud.image_ids() == before

    def test_another_project_learns_nothing(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.stranger))
        action = {"createImage": {"name": "no"}}
        unknown = str(uuid.uuid4())
        for one, other in (
            (client.get(f"/servers/{instance.uuid}"), client.get(f"/servers/{unknown}")),
            (
                client.post(f"/servers/{instance.uuid}/action", action),
                client.post(f"/servers/{unknown}/action", action),
            ),
        ):
            assert one.status_code == 404
            assert one.text.replace(instance.uuid, unknown) == other.text
        assert client.get("/servers/detail").json() == {"servers": []}

    def test_an_administrator_takes_one_for_the_owner(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.admin))
        image_id = client.create_image(instance.uuid, "by-admin")
        client.wait_until_free(instance.uuid)
        record, data = cloud.image(image_id)
        assert (record["visibility"], record["owner"]) == ("shared", cloud.cast.admin.project_id)
        assert data == snapshot_data(instance.uuid, SIZE)

    def test_no_secret_is_in_the_log(self, cloud: Cloud) -> None:
        instance = cloud.instance()
        client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.member))
        client.create_image(instance.uuid, "quiet")
        client.wait_until_free(instance.uuid)
        log = cloud.deployment.log()
        assert instance.uuid in log
        assert "DEBUG nova_snap.image.http" in log
        assert "DEBUG keystoneauth" in log
        assert TOKEN not in log.replace("gAAAAAmade-up", "")
        assert cloud.cast.service.password not in log


class TestTime:
    """Tokens here live for LIFE seconds, and a snapshot takes three times DELAY."""

    def test_a_token_that_expires_does_not_lose_the_snapshot(
        self, tmp_path: Path, hasty: tuple[Keystone, Glance]
    ) -> None:
        with Cloud(tmp_path, *hasty, {"fake": {"snapshot_delay": DELAY}}) as cloud:
            instance = cloud.instance()
            token = cloud.directory.token(cloud.cast.member)
            client = cloud.deployment.client_with(token)
            image_id = client.create_image(instance.uuid, "late")
            cloud.directory.wait_until_expired(token)
            assert fault(client.get("/servers"))[0] == 401
            fresh = cloud.deployment.client_with(cloud.directory.token(cloud.cast.admin))
            assert fresh.server(instance.uuid)["OS-EXT-STS:task_state"] is not None
            wait_until_done(cloud, instance)
            record, data = cloud.image(image_id)
            assert (record["status"], record["owner"]) == ("active", cloud.cast.member.project_id)
            assert data == snapshot_data(instance.uuid, SIZE)

    def test_without_a_service_token_the_reason_is_told(
        self, tmp_path: Path, hasty: tuple[Keystone, Glance]
    ) -> None:
        options = {
            "fake": {"snapshot_delay": DELAY},
            "service_user": {"send_service_user_token": False},
        }
        with Cloud(tmp_path, *hasty, options) as cloud:
            instance = cloud.instance()
            client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.member))
            image_id = client.create_image(instance.uuid, "lost")
            wait_until_done(cloud, instance)
            action = cloud.action(instance)
            assert "the token has expired" in (action.message or "")
            # The service itself deletes what the user's token does not delete any more.
            assert image_id not in cloud.image_ids()


class Slow:
    """Data of which the second half comes when a token has expired."""

    def __init__(self, data: bytes, directory: Directory, token: str) -> None:
        self._data = io.BytesIO(data)
        self._half = len(data) // 2
        self._directory, self._token = directory, token

    def read(self, size: int = -1, /) -> bytes:
        if self._data.tell() < self._half:
            return self._data.read(min(size, self._half - self._data.tell()))
        self._directory.wait_until_expired(self._token)
        return self._data.read(size)

    def seek(self, offset: int, /) -> int:
        return self._data.seek(offset)


def context_of(person: Person, token: str) -> RequestContext:
    return RequestContext(
        auth_token=token,
        user_id=person.id,
        project_id=person.project_id,
        roles=["member", "reader"],
        overwrite=False,
    )


class TestImageService:
    """The image service's module alone."""

    def test_a_token_may_expire_while_its_data_is_sent(
        self, tmp_path: Path, hasty: tuple[Keystone, Glance]
    ) -> None:
        keystone, glance = hasty
        cloud = Cloud(tmp_path, keystone, glance, {"glance": {"endpoint_override": glance.url}})
        token = cloud.directory.token(cloud.cast.member)
        context = context_of(cloud.cast.member, token)
        api = image_glance.API(cloud.conf)
        image_id = api.create(context, {"name": "slow", "visibility": "private"})["id"]
        data = random.Random(2).randbytes(2_000_000)
        kind = {"disk_format": "raw", "container_format": "bare"}
        api.update(context, image_id, kind, Slow(data, cloud.directory, token), len(data))
        record, found = cloud.image(image_id)
        assert (record["status"], record["owner"]) == ("active", cloud.cast.member.project_id)
        assert found == data

    def test_what_nobody_asked_for_is_done_by_the_service(
        self, tmp_path: Path, keystone: Keystone, keystone_glance: Glance
    ) -> None:
        cloud = Cloud(tmp_path, keystone, keystone_glance)
        image = keystone_glance.client_of(cloud.cast.member).images.create(name="left-behind")
        api = image_glance.API(cloud.conf)
        context = RequestContext(overwrite=False)
        assert api.get(context, image["id"])["owner"] == cloud.cast.member.project_id
        assert api.url(context, "x") == f"{keystone_glance.url}/images/x"
        api.delete(context, image["id"])
        assert image["id"] not in cloud.image_ids()

    def test_a_service_token_that_ends_is_replaced_and_a_keystone_that_ends_is_told(
        self,
        tmp_path: Path,
        start_keystone: Callable[..., Keystone],
        start_glance: Callable[..., Glance],
    ) -> None:
        keystone = start_keystone(token_seconds=5)
        glance = start_glance("keystone", keystone=keystone)
        quick = {"endpoint_override": glance.url, "num_retries": 0}
        cloud = Cloud(tmp_path, keystone, glance, {"glance": quick})
        token = cloud.directory.token(cloud.cast.member)
        context = context_of(cloud.cast.member, token)
        api = image_glance.API(cloud.conf)
        image_id = api.create(context, {"name": "x", "visibility": "private"})["id"]
        cloud.directory.wait_until_expired(token)
        # Tokens live long from now on: the service's does not end by its age any more.
        keystone.token_seconds = 3600
        keystone.restart()
        assert api.get(context, image_id)["name"] == "x"
        cloud.directory.end_tokens(cloud.cast.service)
        assert api.get(context, image_id)["name"] == "x"

        with cloud:
            unused = cloud.directory.token(cloud.cast.member)
            keystone.stop()
            answer = cloud.deployment.client_with(unused).get("/servers")
            code, _, message = fault(answer)
            assert (code, answer.headers["Retry-After"]) == (503, "10")
            assert "identity service" in message


class TestCatalog:
    def test_what_it_lacks_is_for_the_operator_to_know(
        self, tmp_path: Path, keystone: Keystone, keystone_glance: Glance
    ) -> None:
        with Cloud(
            tmp_path, keystone, keystone_glance, {"glance": {"region_name": "Nowhere"}}
        ) as cloud:
            instance = cloud.instance()
            client = cloud.deployment.client_with(cloud.directory.token(cloud.cast.member))
            action = {"createImage": {"name": "no"}}
            answer = client.post(f"/servers/{instance.uuid}/action", action)
            code, name, message = fault(answer)
            assert (code, name) == (500, "computeFault")
            assert message.startswith("The catalog has no endpoint of a service that is needed")
            assert "region_name Nowhere" in cloud.deployment.log()
            assert client.server(instance.uuid)["OS-EXT-STS:task_state"] is None

    @pytest.fixture
    def far_away(self, keystone: Keystone) -> Iterator[None]:
        """A second image service, of a region of its own."""
        keystone.directory.region("Far")
        keystone.directory.service("image", "far-glance", "http://127.0.0.1:9", "Far")
        yield
        keystone.directory.forget_service("far-glance")

    @pytest.mark.usefixtures("far_away")
    def test_one_region_of_two(
        self, tmp_path: Path, keystone: Keystone, keystone_glance: Glance
    ) -> None:
        for region, url in (("Far", "http://127.0.0.1:9"), ("RegionOne", keystone_glance.url)):
            place = tmp_path / region
            place.mkdir()
            cloud = Cloud(place, keystone, keystone_glance, {"glance": {"region_name": region}})
            found = image_glance.API(cloud.conf).url(RequestContext(overwrite=False), "x")
            assert found == f"{url}/images/x"


class TestConfiguration:
    @pytest.mark.parametrize(
        ("group", "change", "words"),
        [
            ("keystone_authtoken", {"auth_type": ""}, "[keystone_authtoken]"),
            ("keystone_authtoken", {"auth_url": ""}, "auth_url"),
            ("service_user", {"auth_type": "v9telepathy"}, "v9telepathy"),
            # The environment of the tests has no such module.
            ("keystone_authtoken", {"memcached_servers": "127.0.0.1:9"}, "python-memcached"),
        ],
    )
    def test_what_lacks_ends_the_start(
        self, tmp_path: Path, keystone: Keystone, group: str, change: dict[str, str], words: str
    ) -> None:
        options = options_for(keystone.directory, keystone.directory.cast())
        options[group] = {
            name: value for name, value in {**options[group], **change}.items() if value
        }
        deployment = Deployment(tmp_path, options)
        done = subprocess.run(
            [BIN / "nova-snap-all", "--config-file", deployment.config],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def wait_until_done(cloud: Cloud, instance: Instance) -> None:
    """Until the snapshot has ended: asked of the database, because tokens end meanwhile."""
    until = time.monotonic() + 60
    while True:
        instance.refresh()
        if instance.task_state is None:
            return
        assert time.monotonic() < until, f"still {instance.task_state}\n{cloud.deployment.log()}"
        time.sleep(0.1)
