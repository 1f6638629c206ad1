# SPDX-License-Identifier: Apache-2.0
"""Options of the service's own user: whom nova_snap is to other services of the cloud.

``[keystone_authtoken]``, with which the tokens of clients are checked, is keystonemiddleware's.
"""

from typing import Any, Final

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = cfg.OptGroup("service_user", title="The service's own user")

TIMEOUT: Final = 60
"""Seconds that the identity service may take; keystoneauth would wait for ever."""

OPTS = [
    cfg.BoolOpt(
        "send_service_user_token",
        default=True,
        help="""
Send the service's own token beside the user's to the image service, whenever auth_type says who
the service is. With it the image service takes a user's token that has expired meanwhile: without
it, a snapshot is lost that waits or uploads for longer than a token lives. The service's user
needs a role that [keystone_authtoken] service_token_roles names there, by default "service".
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A copy: oslo.config keeps overrides in the group, and configurations must not share them.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)
    conf.register_opts(_session_opts(), group=GROUP.name)
    conf.register_opts(loading.get_auth_common_conf_options(), group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]


def list_library_opts() -> list[tuple[str, list[Any]]]:
    """Options of keystoneauth in the group, with those of the plugin that fits most clouds."""
    plugin = loading.get_auth_plugin_conf_options("v3password")
    return [(GROUP.name, _session_opts() + loading.get_auth_common_conf_options() + plugin)]


def _session_opts() -> list[cfg.Opt]:
    made: list[cfg.Opt] = loading.get_session_conf_options()
    cfg.set_defaults(made, timeout=TIMEOUT)
    return made
