#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Have a snapshot taken by a message, as a service that schedules backups would.

Nothing of nova_snap is imported: all that another service needs is oslo.messaging and a client of
the image service. It makes the image's record itself and names it in the message; the record
becomes ``active`` when the snapshot is done, and is deleted when it fails.

    ./cast_snapshot.py --transport-url rabbit://guest:guest@127.0.0.1:5672/ \\
        --image-endpoint http://127.0.0.1:9292 --project PROJECT --user USER \\
        --host compute-1 --instance UUID --name nightly --wait 600
"""

import argparse
import sys
import time
import uuid

# Before oslo.messaging, or it settles on eventlet.
from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

import glanceclient  # noqa: E402
import glanceclient.exc  # noqa: E402
import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

TOPIC = "nova_snap_compute"
VERSION = "1.0"


class Contexts(oslo_messaging.NoOpSerializer):
    """Contexts are dictionaries already."""

    def serialize_context(self, context: dict[str, object]) -> dict[str, object]:
        return context


def cast(arguments: argparse.Namespace, image_id: str) -> str:
    """Send the message.

    :returns: the request id: the snapshot's log lines and its action have it.
    """
    files = [arguments.config_file] if arguments.config_file else []
    cfg.CONF([], default_config_files=files)  # noqa: TID251
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=arguments.transport_url)  # noqa: TID251
    client = oslo_messaging.get_rpc_client(
        transport,
        oslo_messaging.Target(topic=arguments.topic, version=VERSION),
        serializer=Contexts(),
        # A host that nobody has ever run a compute service for has no queue: say so.
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        retry=2,
    )
    request_id = f"req-{uuid.uuid4()}"
    context = {
        "request_id": request_id,
        "user_id": arguments.user,
        "project_id": arguments.project,
        "roles": ["member", "reader"],
        "auth_token": arguments.token,
    }
    client.prepare(server=arguments.host).cast(
        context, "snapshot_instance", instance=arguments.instance, image_id=image_id
    )
    transport.cleanup()
    return request_id


def wait(images: object, image_id: str, seconds: float) -> str:
    """The image's status when the snapshot has ended, or when the time has."""
    until = time.monotonic() + seconds
    while True:
        try:
            status: str = images.get(image_id)["status"]  # type: ignore[attr-defined]
        except glanceclient.exc.HTTPNotFound:
            return "deleted: the snapshot failed"
        if status == "active" or time.monotonic() > until:
            return status
        time.sleep(0.5)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transport-url", required=True)
    parser.add_argument(
        "--config-file", help="for [oslo_messaging_rabbit], where it differs from the defaults"
    )
    parser.add_argument("--topic", default=TOPIC, help="[rpc] compute_topic of nova_snap")
    parser.add_argument("--image-endpoint", required=True)
    parser.add_argument("--token", help="Keystone's, where the image service asks for one")
    parser.add_argument("--project", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--host", required=True, help="compute host of the instance")
    parser.add_argument("--instance", required=True, help="uuid")
    parser.add_argument("--name", required=True, help="of the image")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    images = glanceclient.Client(
        endpoint=f"{arguments.image_endpoint}/v2",
        token=arguments.token,
        identity_headers={
            "X-User-Id": arguments.user,
            "X-Tenant-Id": arguments.project,
            "X-Roles": "member",
        },
    ).images
    image_id = images.create(name=arguments.name, visibility="private")["id"]
    try:
        request_id = cast(arguments, image_id)
    except (oslo_messaging.MessageUndeliverable, oslo_messaging.MessagingException) as error:
        images.delete(image_id)
        print(f"the message was not taken: {error!r}", file=sys.stderr)
        return 1
    print(f"image {image_id} request {request_id}", flush=True)
    if arguments.wait:
        status = wait(images, image_id, arguments.wait)
        print(f"status {status}")
        return 0 if status == "active" else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
