# SPDX-License-Identifier: Apache-2.0
"""Whose tokens go out with a request, and where to, without a Keystone."""

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.identity import Identity, load_plugin

GIVEN = "a-token"


def entry(name: str, kind: str, region: str, **urls: str) -> dict[str, object]:
    endpoint = {f"{interface}URL": url for interface, url in urls.items()}
    return {"type": kind, "name": name, "endpoints": [{"region": region, **endpoint}]}


CATALOG = [
    entry("nova", "compute", "North", public="http://compute.example.org/v2.1"),
    entry("glance", "image", "North", public="http://pub.example.org", internal="http://int/v2/"),
    entry("glance", "image", "South", public="http://south.example.org"),
    entry("archive", "image", "South", public="http://archive.example.org", admin="http://adm"),
]


def context(token: str | None = GIVEN) -> RequestContext:
    return RequestContext(auth_token=token, service_catalog=CATALOG, overwrite=False)


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        ({}, "http://int/v2"),
        ({"valid_interfaces": ["public"]}, "http://pub.example.org"),
        ({"region_name": "South"}, "http://south.example.org"),
        ({"service_name": "archive"}, "http://archive.example.org"),
        ({"service_name": "archive", "valid_interfaces": ["admin"]}, "http://adm"),
        ({"service_type": "compute"}, "http://compute.example.org/v2.1"),
    ],
)
def test_the_endpoint_is_the_one_that_the_options_want(
    conf: cfg.ConfigOpts, options: dict[str, object], endpoint: str
) -> None:
    for name, value in options.items():
        conf.set_override(name, value, "glance")
    assert Identity(conf).credentials(context()).endpoint(conf, "glance") == endpoint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"region_name": "West"}, "region_name West"),
        ({"service_name": "ceph"}, "service_name ceph"),
        ({"service_type": "object-store"}, "service_type object-store"),
        ({"valid_interfaces": ["admin"], "region_name": "North"}, "admin"),
    ],
)
def test_what_the_catalog_lacks_is_named(
    conf: cfg.ConfigOpts, options: dict[str, object], words: str
) -> None:
    for name, value in options.items():
        conf.set_override(name, value, "glance")
    with pytest.raises(exception.EndpointNotFound, match=words):
        Identity(conf).credentials(context()).endpoint(conf, "glance")


def test_a_token_without_a_catalog_finds_nothing(conf: cfg.ConfigOpts) -> None:
    asker = RequestContext(auth_token="a-token", overwrite=False)
    with pytest.raises(exception.EndpointNotFound):
        Identity(conf).credentials(asker).endpoint(conf, "glance")


def test_a_user_without_a_service_sends_his_token_and_cannot_renew_it(
    conf: cfg.ConfigOpts,
) -> None:
    credentials = Identity(conf).credentials(context())
    assert credentials.headers() == {"X-Auth-Token": "a-token"}
    assert not credentials.renew()


def test_nobody_is_nobody(conf: cfg.ConfigOpts) -> None:
    with pytest.raises(exception.NoCredentials, match="service_user"):
        Identity(conf).credentials(context(None))


@pytest.fixture
def unreachable(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    """A service user of a Keystone that is not there."""
    conf.set_override("auth_type", "v3password", "service_user")
    # Its options are registered by the first look for them, which finds them missing.
    with pytest.raises(exception.IdentityMisconfigured, match="auth_url"):
        load_plugin(conf, "service_user")
    conf.set_override("auth_url", "http://127.0.0.1:9/v3", "service_user")
    conf.set_override("username", "nova_snap", "service_user")
    conf.set_override("password", "secret", "service_user")
    conf.set_override("user_domain_id", "default", "service_user")
    return conf


@pytest.mark.parametrize("token", ["a-token", None])
def test_a_keystone_that_is_not_there_is_worth_another_try(
    unreachable: cfg.ConfigOpts, token: str | None
) -> None:
    credentials = Identity(unreachable).credentials(context(token))
    with pytest.raises(exception.IdentityServiceUnavailable, match=r"127\.0\.0\.1:9") as caught:
        credentials.headers()
    assert "127.0.0.1" not in caught.value.for_user()


def test_a_service_that_shall_not_vouch_is_not_asked(unreachable: cfg.ConfigOpts) -> None:
    unreachable.set_override("send_service_user_token", False, "service_user")
    assert Identity(unreachable).credentials(context()).headers() == {"X-Auth-Token": "a-token"}


def test_an_unknown_plugin_is_named(conf: cfg.ConfigOpts) -> None:
    conf.set_override("auth_type", "v9telepathy", "service_user")
    with pytest.raises(exception.IdentityMisconfigured, match="v9telepathy"):
        Identity(conf)
