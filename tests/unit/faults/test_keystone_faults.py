# SPDX-License-Identifier: Apache-2.0
"""A Keystone that takes connections and says nothing."""

import pathlib
import socket
import time
from collections.abc import Iterator

import pytest
import webob
from oslo_config import cfg

from nova_snap import exception
from nova_snap.cmd import parts
from nova_snap.compute import rpc
from nova_snap.context import RequestContext
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.identity import Identity

SOON = 15.0


@pytest.fixture
def silent_conf(conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> Iterator[cfg.ConfigOpts]:
    """Both of the service's ways to Keystone lead to a server that is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        who = f"""
auth_type = password
auth_url = http://127.0.0.1:{silent.getsockname()[1]}
username = nova_snap
password = secret
user_domain_id = default
project_name = service
project_domain_id = default
"""
        path = tmp_path / "nova-snap.conf"
        path.write_text(
            f"[DEFAULT]\nstate_path = {tmp_path}\n[api]\nauth_strategy = keystone\n"
            f"[service_user]{who}timeout = 1\n"
            f"[keystone_authtoken]{who}http_connect_timeout = 1\nhttp_request_max_retries = 0\n"
        )
        conf([], project="nova_snap", default_config_files=[str(path)])
        yield conf


def test_the_services_own_token_is_not_waited_for(silent_conf: cfg.ConfigOpts) -> None:
    credentials = Identity(silent_conf).credentials(RequestContext(overwrite=False))
    began = time.monotonic()
    with pytest.raises(exception.IdentityServiceUnavailable):
        credentials.headers()
    assert 1 <= time.monotonic() - began < SOON


def test_a_clients_token_is_not_waited_for(silent_conf: cfg.ConfigOpts) -> None:
    database = Database(silent_conf)
    migration.sync(database)
    transport = rpc.get_transport(silent_conf)
    application = parts.api_application(silent_conf, database, transport)
    began = time.monotonic()
    request = webob.Request.blank("/v2.1/servers", headers={"X-Auth-Token": "a-token"})
    answer = request.get_response(application)
    assert answer.status_int == 503
    assert 1 <= time.monotonic() - began < SOON
    assert webob.Request.blank("/v2.1").get_response(application).status_int in (200, 302)
    transport.cleanup()
    database.close()
