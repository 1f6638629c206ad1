# SPDX-License-Identifier: Apache-2.0
"""Options of the REST API."""

from typing import Any

from oslo_config import cfg
from oslo_middleware import cors

GROUP = cfg.OptGroup("api", title="REST API")

OPTS = [
    cfg.IntOpt(
        "threads",
        default=16,
        min=1,
        help="""
How many requests nova-snap-api and nova-snap-all serve at the same time. Raise it when clients
wait while the database and the image service are idle. A WSGI server of your own
(nova_snap.wsgi.api:application) has its own setting.
""",
    ),
    cfg.IntOpt(
        "queue_timeout",
        default=45,
        min=0,
        help="""
Seconds that a request may wait for one of the threads. One that has waited for longer gets 503, and
nothing is done: keep it below the time after which your clients, or the proxy in front, give up and
perhaps ask again. 0 lets a request wait for as long as it takes. A WSGI server of your own has its
own setting.
""",
    ),
    cfg.IntOpt(
        "timeout",
        default=60,
        min=1,
        help="""
Seconds after which a connection that sends or takes nothing is closed.
""",
    ),
    cfg.IntOpt(
        "request_timeout",
        default=60,
        min=1,
        help="""
Seconds that a client may take to send a whole request, from its first byte to its last, and as many
again to take the answer. It bounds how long a client that sends byte after byte keeps one of the
threads. Raise it where clients are on very slow lines. A WSGI server of your own has its own
setting.
""",
    ),
    cfg.StrOpt(
        "auth_strategy",
        default="noauth2",
        choices=[
            (
                "noauth2",
                "The client says who it is: the token is USER or USER:PROJECT, and the user "
                "named 'admin' is an administrator. For tests and for a host of your own.",
            ),
            (
                "keystone",
                "Keystone says who the client is: see [keystone_authtoken], and [service_user] "
                "for what nova_snap then says to the image service.",
            ),
        ],
        help="""
How the API learns who asks. With noauth2, serve nobody whom you would not let in: it believes
what a client says of itself.
""",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1000,
        min=1,
        help="""
How many instances one page of a list shows at the most, whatever the client's limit is.
""",
    ),
    cfg.DictOpt(
        "networks",
        default={},
        help="""
Networks that a new server may be asked for by id, as id:name pairs: the name is that of a libvirt
network which every compute host has, or user (see [DEFAULT] default_guest_network for what that
lets a guest do). A server that is asked for in another network is refused.

    networks = 4f7b6a52-9d3c-4d57-a6d8-02a4a3d6f3f1:default
""",
    ),
    cfg.BoolOpt(
        "metrics_enabled",
        default=False,
        help="""
Whether GET /metrics answers, in the format of Prometheus: how many snapshots are asked for, queued
and running, how many have ended and how, the seconds and bytes that they took, and which compute
services are up. Any API process has the numbers of all the hosts: scrape one of them.

Like /healthcheck, it asks nobody who he is. The answer names hosts, but no project, user, server or
image. Set it to true where the port can only be reached by those who may know that, or have the
proxy in front let nobody else through.
""",
    ),
    cfg.URIOpt(
        "compute_link_prefix",
        schemes=["http", "https"],
        help="""
What links in answers begin with, such as https://compute.example.org:8774. Set it when a proxy
stands before the API that does not send X-Forwarded-Proto and X-Forwarded-Host; with those,
[oslo_middleware] enable_proxy_headers_parsing is enough.
""",
    ),
]


def set_middleware_defaults() -> None:
    """What a browser at another origin may send and read, once ``[cors] allowed_origin`` is set."""
    cors.set_defaults(
        allow_headers=[
            "X-Auth-Token",
            "X-Openstack-Request-Id",
            "X-Project-Id",
            "OpenStack-API-Version",
            "X-OpenStack-Nova-API-Version",
        ],
        expose_headers=[
            "X-Openstack-Request-Id",
            "X-Compute-Request-Id",
            "OpenStack-API-Version",
            "X-OpenStack-Nova-API-Version",
            "Location",
        ],
        allow_methods=["GET", "PUT", "POST", "DELETE", "PATCH"],
    )


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    set_middleware_defaults()
    # Not GROUP itself: oslo.config keeps the values of overrides in it, for every ``conf`` at once.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
