# SPDX-License-Identifier: Apache-2.0
"""The image service's module against a real Glance."""

import hashlib
import io
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import glance as image_glance
from tests.fixtures.commands import run
from tests.fixtures.glance import Glance
from tests.fixtures.proxy import BreakingProxy

DATA = random.Random(1).randbytes(3_000_000)
SNAPSHOT = {"name": "snap", "visibility": "private", "properties": {"color": "red"}}
UPLOAD = {"disk_format": "raw", "container_format": "bare", "properties": {"image_state": "x"}}


@pytest.fixture
def api(conf: cfg.ConfigOpts, trusted_glance: Glance) -> image_glance.API:
    conf.set_override("api_servers", [trusted_glance.url], "glance")
    return image_glance.API(conf)


@pytest.fixture
def proxy(conf: cfg.ConfigOpts, trusted_glance: Glance) -> Iterator[BreakingProxy]:
    with BreakingProxy(trusted_glance.port) as made:
        conf.set_override("api_servers", [made.url], "glance")
        yield made


@pytest.fixture
def asker() -> RequestContext:
    return RequestContext(
        user_id="kim", project_id="shop", roles=["member", "reader"], overwrite=False
    )


def content(glance: Glance, image_id: str) -> bytes:
    client = glance.client(user_id="kim", project_id="shop")
    return b"".join(client.images.data(image_id))


class TestRecords:
    def test_a_record_is_queued_and_its_askers(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        image = api.create(asker, {**SNAPSHOT, "min_disk": 3, "min_ram": 64})
        found = api.get(asker, image["id"])
        assert (found["status"], found["owner"], found["visibility"]) == (
            "queued",
            "shop",
            "private",
        )
        assert (found["name"], found["color"], found["min_disk"], found["min_ram"]) == (
            "snap",
            "red",
            3,
            64,
        )

    def test_a_list_has_filters_and_pages(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        server = str(uuid.uuid4())
        properties = {"instance_uuid": server, "image_type": "snapshot"}
        made = [
            api.create(asker, {"name": name, "visibility": "private", "properties": properties})
            for name in ("one", "two", "three")
        ]
        ids = {image["id"] for image in made}

        def listed(limit: int | None = None, marker: str | None = None, **more: str) -> list[str]:
            filters = {"instance_uuid": server, **more}
            found = api.get_all(asker, filters, limit=limit, marker=marker)
            return [image["id"] for image in found]

        everything = listed()
        assert set(everything) == ids
        assert listed(limit=2) == everything[:2]
        assert listed(limit=2, marker=everything[1]) == everything[2:]
        assert set(listed(status="in:queued,saving")) == ids
        assert listed(status="active") == []
        assert listed(image_type="backup") == []
        assert set(listed(updated_at=f"gte:{made[0]['created_at']}")) == ids
        assert listed(updated_at="gte:2199-01-01T00:00:00Z") == []
        with pytest.raises(exception.InvalidImageProperty):
            listed(marker=str(uuid.uuid4()))
        stranger = RequestContext(user_id="lee", project_id="other", roles=["member"])
        assert api.get_all(stranger, {"instance_uuid": server}) == []

    def test_properties_are_set_and_removed(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        image = api.create(asker, {**SNAPSHOT, "min_disk": 3})
        changed = api.set_properties(asker, image["id"], {"a": "1", "os_distro": "debian"})
        assert (changed["a"], changed["os_distro"], changed["color"]) == ("1", "debian", "red")
        changed = api.set_properties(asker, image["id"], {"a": "2"}, remove=["color", "os_distro"])
        assert changed["a"] == "2"
        assert "color" not in changed
        assert changed.get("os_distro") is None
        assert changed["min_disk"] == 3
        with pytest.raises(exception.ImageNotFound):
            api.set_properties(asker, str(uuid.uuid4()), {"a": "1"})

    def test_a_shared_record_is_seen_by_its_member(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        image = api.create(asker, {**SNAPSHOT, "visibility": "shared"})
        owner = RequestContext(user_id="lee", project_id="owner", roles=["member"])
        with pytest.raises(exception.ImageNotFound):
            api.get(owner, image["id"])
        api.add_member(asker, image["id"], "owner")
        api.add_member(asker, image["id"], "owner")
        assert api.get(owner, image["id"])["id"] == image["id"]

    def test_another_projects_record_is_not_found(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        image = api.create(asker, SNAPSHOT)
        other = RequestContext(user_id="lee", project_id="other", roles=["member"])
        with pytest.raises(exception.ImageNotFound, match=image["id"]):
            api.get(other, image["id"])

    def test_a_deleted_record_is_gone(self, api: image_glance.API, asker: RequestContext) -> None:
        image = api.create(asker, SNAPSHOT)
        api.delete(asker, image["id"])
        for method in (api.get, api.delete):
            with pytest.raises(exception.ImageNotFound):
                method(asker, image["id"])

    @pytest.mark.parametrize(
        "properties", [{"k" * 256: "v"}, {"owner_id": 7}], ids=["long-name", "no-string"]
    )
    def test_a_property_that_glance_refuses(
        self, api: image_glance.API, asker: RequestContext, properties: dict[str, Any]
    ) -> None:
        with pytest.raises(exception.InvalidImageProperty):
            api.create(asker, {"name": "snap", "properties": properties})

    def test_nobody_is_refused(self, api: image_glance.API) -> None:
        nobody = RequestContext(overwrite=False)
        with pytest.raises(exception.ImageForbidden):
            api.create(nobody, SNAPSHOT)


class TestUpload:
    def test_the_bytes_arrive_and_other_properties_stay(
        self, api: image_glance.API, asker: RequestContext, trusted_glance: Glance
    ) -> None:
        image = api.create(asker, SNAPSHOT)
        done = api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))
        assert (done["status"], done["size"], done["disk_format"]) == ("active", len(DATA), "raw")
        assert (done["color"], done["image_state"]) == ("red", "x")
        assert done["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
        assert content(trusted_glance, image["id"]) == DATA

    def test_properties_alone_leave_it_queued(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        image = api.create(asker, SNAPSHOT)
        done = api.update(asker, image["id"], {"properties": {"size_hint": "1"}})
        assert (done["status"], done["size_hint"], done["color"]) == ("queued", "1", "red")

    @pytest.mark.parametrize("breaks", [1, 3])
    def test_a_broken_upload_begins_again_at_byte_0(
        self,
        conf: cfg.ConfigOpts,
        proxy: BreakingProxy,
        asker: RequestContext,
        trusted_glance: Glance,
        breaks: int,
    ) -> None:
        conf.set_override("retry_interval", 0.2, "glance")
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        proxy.break_requests(breaks, after=1_500_000)
        done = api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))
        assert proxy.broken == breaks
        assert (done["status"], done["size"]) == ("active", len(DATA))
        assert content(trusted_glance, image["id"]) == DATA

    def test_an_upload_that_keeps_breaking_ends(
        self, conf: cfg.ConfigOpts, proxy: BreakingProxy, asker: RequestContext
    ) -> None:
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        proxy.break_requests(100, after=1_500_000)
        with pytest.raises(exception.ImageServiceUnavailable):
            api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))
        assert 1 <= proxy.broken <= conf.glance.num_retries + 1
        assert api.get(asker, image["id"])["status"] in ("queued", "saving")

    def test_an_upload_whose_answer_was_lost_is_not_sent_again(
        self,
        conf: cfg.ConfigOpts,
        proxy: BreakingProxy,
        asker: RequestContext,
        trusted_glance: Glance,
    ) -> None:
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        proxy.lose_answer(after=1_500_000)
        done = api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))
        assert proxy.broken == 1
        assert (done["status"], done["size"]) == ("active", len(DATA))
        assert content(trusted_glance, image["id"]) == DATA

    def test_a_byte_that_changed_on_the_way(
        self, conf: cfg.ConfigOpts, proxy: BreakingProxy, asker: RequestContext
    ) -> None:
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        proxy.change_a_byte(after=1_500_000)
        with pytest.raises(exception.ImageRejected, match=hashlib.sha512(DATA).hexdigest()):
            api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))

    def test_an_upload_that_nobody_wants_ends_though_the_server_does_not_read(
        self, conf: cfg.ConfigOpts, proxy: BreakingProxy, asker: RequestContext
    ) -> None:
        """The thread that sends waits in the kernel, for as long as [glance] timeout."""
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        proxy.stop_reading(after=1_500_000)
        data = bytes(64 << 20)  # more than the sockets' buffers take
        cancelled_at: list[float] = []

        def cancel_when_stalled(cancel: Callable[[], None]) -> None:
            def run() -> None:
                assert proxy.stalled.wait(30)
                time.sleep(0.5)  # until the buffers are full
                cancelled_at.append(time.monotonic())
                cancel()

            threading.Thread(target=run, daemon=True).start()

        with pytest.raises(exception.ImageServiceUnavailable):
            api.update(asker, image["id"], UPLOAD, io.BytesIO(data), len(data), cancel_when_stalled)
        assert time.monotonic() - cancelled_at[0] < 1
        assert conf.glance.timeout > 10

    def test_a_cancelled_upload_does_not_begin(
        self, conf: cfg.ConfigOpts, proxy: BreakingProxy, asker: RequestContext
    ) -> None:
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        with pytest.raises(exception.ImageServiceUnavailable):
            api.update(
                asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA), lambda cancel: cancel()
            )
        assert api.get(asker, image["id"])["status"] == "queued"

    def test_nobody_looks_for_a_byte_that_changed_on_the_way(
        self, conf: cfg.ConfigOpts, proxy: BreakingProxy, asker: RequestContext
    ) -> None:
        conf.set_override("verify_uploads", False, "glance")
        api = image_glance.API(conf)
        image = api.create(asker, SNAPSHOT)
        proxy.change_a_byte(after=1_500_000)
        done = api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))
        assert (done["status"], done["size"]) == ("active", len(DATA))
        assert done["os_hash_value"] != hashlib.sha512(DATA).hexdigest()

    def test_an_image_that_is_active_takes_no_more_data(
        self, api: image_glance.API, asker: RequestContext, trusted_glance: Glance
    ) -> None:
        image = api.create(asker, SNAPSHOT)
        api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))
        with pytest.raises(exception.ImageServiceError):
            api.update(asker, image["id"], {}, io.BytesIO(b"other"), 5)
        assert content(trusted_glance, image["id"]) == DATA

    def test_a_file_that_is_too_short(self, api: image_glance.API, asker: RequestContext) -> None:
        image = api.create(asker, SNAPSHOT)
        with pytest.raises(EOFError):
            api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA) + 1)
        assert api.get(asker, image["id"])["status"] != "active"

    def test_an_image_that_is_gone(self, api: image_glance.API, asker: RequestContext) -> None:
        image = api.create(asker, SNAPSHOT)
        api.delete(asker, image["id"])
        with pytest.raises(exception.ImageNotFound, match=image["id"]):
            api.update(asker, image["id"], UPLOAD, io.BytesIO(DATA), len(DATA))

    def test_data_that_glance_finds_unfit(
        self, api: image_glance.API, asker: RequestContext
    ) -> None:
        """It is said to be qcow2, and it is not."""
        image = api.create(asker, SNAPSHOT)
        metadata = {"disk_format": "qcow2", "container_format": "bare"}
        with pytest.raises(exception.ImageServiceError):
            api.update(asker, image["id"], metadata, io.BytesIO(DATA), len(DATA))
        assert api.get(asker, image["id"])["status"] == "queued"


class TestUnavailable:
    def test_nobody_listens(self, conf: cfg.ConfigOpts, asker: RequestContext) -> None:
        conf.set_override("api_servers", ["http://127.0.0.1:9"], "glance")
        with pytest.raises(exception.ImageServiceUnavailable, match=r"127\.0\.0\.1:9"):
            image_glance.API(conf).get(asker, str(uuid.uuid4()))

    def test_the_next_server_is_tried(
        self, conf: cfg.ConfigOpts, asker: RequestContext, trusted_glance: Glance
    ) -> None:
        conf.set_override("api_servers", ["http://127.0.0.1:9", trusted_glance.url], "glance")
        image = image_glance.API(conf).create(asker, SNAPSHOT)
        assert image["status"] == "queued"

    def test_a_server_that_says_nothing_is_given_up(
        self, conf: cfg.ConfigOpts, asker: RequestContext, trusted_glance: Glance
    ) -> None:
        conf.set_override("api_servers", [trusted_glance.url], "glance")
        conf.set_override("timeout", 1, "glance")
        conf.set_override("num_retries", 1, "glance")
        trusted_glance.service.pause()
        try:
            with pytest.raises(exception.ImageServiceUnavailable):
                image_glance.API(conf).create(asker, SNAPSHOT)
        finally:
            trusted_glance.service.resume()

    def test_a_create_whose_answer_was_lost_makes_one_record(
        self,
        conf: cfg.ConfigOpts,
        proxy: BreakingProxy,
        asker: RequestContext,
        trusted_glance: Glance,
    ) -> None:
        api = image_glance.API(conf)
        name = str(uuid.uuid4())
        record = {"name": name, "properties": {f"p{i}": "x" * 200 for i in range(50)}}
        proxy.lose_answer(after=5_000)
        image = api.create(asker, record)
        assert proxy.broken == 1
        client = trusted_glance.client(user_id="kim", project_id="shop")
        found = [one["id"] for one in client.images.list(filters={"name": name})]
        assert found == [image["id"]]


class TestPretenders:
    """What a guest writes to its raw disk may look like another format to Glance."""

    @pytest.mark.parametrize(
        "pieces",
        [
            {32769: b"CD001\1"},
            {510: b"\x55\xaa", 512: b"EFI PART", 32769: b"CD001\1"},
            {0: b"QFI\xfb\0\0\0\3"},
            {0: b"KDMV\1\0\0\0"},
            {510: b"\x55\xaa"},
        ],
        ids=["iso", "iso and gpt", "qcow2", "vmdk", "no partition"],
    )
    def test_raw_image(
        self, api: image_glance.API, asker: RequestContext, pieces: dict[int, bytes]
    ) -> None:
        """It takes the very bytes, or the reason says what can be done. It differs by release."""
        content = bytearray(1 << 20)
        for offset, piece in pieces.items():
            content[offset : offset + len(piece)] = piece
        image = api.create(asker, SNAPSHOT)
        said = ""
        try:
            api.update(asker, image["id"], UPLOAD, io.BytesIO(content), len(content))
        except exception.ImageRejected as error:
            said = str(error)
        record = api.get(asker, image["id"])
        if said:
            assert "in an image of the format qcow2 it does not: " in said
            assert "415" in said
            assert record["status"] == "queued"
        else:
            assert record["status"] == "active"
            assert record["os_hash_value"] == hashlib.sha512(content).hexdigest()

    def test_qcow2_image_of_it(
        self, api: image_glance.API, asker: RequestContext, tmp_path: Path
    ) -> None:
        """As the error says."""
        content = bytearray(1 << 20)
        content[32769:32774] = b"CD001"
        content[:4] = b"QFI\xfb"
        raw, qcow2 = tmp_path / "raw", tmp_path / "qcow2"
        raw.write_bytes(content)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
        image = api.create(asker, SNAPSHOT)
        data = qcow2.read_bytes()
        metadata = {"disk_format": "qcow2", "container_format": "bare"}
        api.update(asker, image["id"], metadata, io.BytesIO(data), len(data))
        assert api.get(asker, image["id"])["status"] == "active"
