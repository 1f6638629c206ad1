# SPDX-License-Identifier: Apache-2.0
"""Options of the notifications. Where they go is said in [oslo_messaging_notifications]."""

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup("notifications", title="Notifications")

OPTS = [
    cfg.StrOpt(
        "notification_format",
        default="versioned",
        choices=[
            ("versioned", "instance.snapshot.start, .end and .error, as objects with a version."),
            (
                "unversioned",
                "compute.instance.snapshot.start, .end and .error, plain dictionaries.",
            ),
            ("both", "Each of them in both forms."),
            ("none", "No notifications."),
        ],
        help="""
In which form others are told of snapshots and backups.

Nothing is sent unless [oslo_messaging_notifications] driver names a driver, such as messagingv2.
With 'both', RabbitMQ keeps what nobody reads: see that every topic has a reader.
""",
    ),
    cfg.ListOpt(
        "versioned_notifications_topics",
        default=["versioned_notifications"],
        help="""
Topics that versioned notifications are sent to; each of them gets every notification. The topics
of unversioned ones are those in [oslo_messaging_notifications].
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A copy: oslo.config keeps overrides in the group, and configurations must not share them.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
