# SPDX-License-Identifier: Apache-2.0
"""Options, one module per group: each has ``register_opts(conf)`` and ``list_opts()``.

Every module here holds the facts about its options; whoever needs a value is handed the
:class:`oslo_config.cfg.ConfigOpts` and reads it there.
"""

from oslo_config import cfg

from nova_snap.conf import (
    api,
    base,
    cinder,
    fake,
    glance,
    instances,
    libvirt,
    lifecycle,
    notifications,
    quota,
    rpc,
    service_user,
)

MODULES = (
    base,
    api,
    cinder,
    fake,
    glance,
    instances,
    libvirt,
    lifecycle,
    quota,
    rpc,
    service_user,
    notifications,
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make every option of nova_snap known to ``conf``. May be called twice."""
    for module in MODULES:
        module.register_opts(conf)
