# SPDX-License-Identifier: Apache-2.0
"""Options of the ``[DEFAULT]`` group: who the process is, where it listens, how much it does."""

import socket
from typing import Any

from oslo_config import cfg
from oslo_utils import netutils

GROUP = "DEFAULT"

OPTS = [
    cfg.HostDomainOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<current_hostname>",
        help="""
Name of this compute host.

It is the name under which instances are adopted, and the address of the messages that other
processes send to this one. Change it when the host's name is not unique or not stable; change it
only while no instance is adopted on the host, because an instance belongs to the name that it was
adopted under.
""",
    ),
    cfg.StrOpt(
        "state_path",
        default="/var/lib/nova_snap",
        help="""
Directory that the service's own files live in.

The default SQLite database and the default directory for temporary snapshots are below it.
Change it when /var/lib is not the place for that on your hosts.
""",
    ),
    cfg.ListOpt(
        "non_inheritable_image_properties",
        default=["cache_in_nova", "bittorrent"],
        help="""
Image properties that a snapshot does not inherit from the image of its instance.

Add the names of properties that are true of the base image only. Signatures (img_signature*),
keys of encrypted volumes (cinder_encryption_key_*), block device mappings and everything that
begins with os_glance are never inherited and need not be listed.
""",
    ),
    cfg.HostAddressOpt(
        "osapi_compute_listen",
        default="127.0.0.1",
        help="""
Address that nova-snap-api and nova-snap-all listen on.

The default is this machine only, because auth_strategy = noauth2 believes what a client says of
itself. Set it to 0.0.0.0, :: or one address of the host to serve others.
""",
    ),
    cfg.PortOpt(
        "osapi_compute_listen_port",
        default=8774,
        help="""
TCP port that nova-snap-api and nova-snap-all listen on. 8774 is Nova's own: change it where
nova_snap runs beside nova-api on one host.
""",
    ),
    cfg.StrOpt(
        "my_ip",
        default=netutils.get_my_ipv4(),
        sample_default="<host_ipv4>",
        help="""
Address of this host, as os-hypervisors shows it. Nothing listens on it.
""",
    ),
    cfg.StrOpt(
        "default_availability_zone",
        default="nova",
        help="""
Name of the availability zone that every compute host is in.
""",
    ),
    cfg.StrOpt(
        "compute_driver",
        default="libvirt.LibvirtDriver",
        choices=[
            ("libvirt.LibvirtDriver", "Guests of a libvirt host: see [libvirt]."),
            ("fake.FakeDriver", "No guests at all: for tests and load runs. See [fake]."),
        ],
        help="""
Which driver takes the snapshots of this host.
""",
    ),
    cfg.IntOpt(
        "max_concurrent_snapshots",
        default=5,
        min=1,
        help="""
How many snapshots this host takes at the same time, backups included; the others wait in
task_state image_snapshot. The next place goes to the project that has the fewest, so that one with
many requests does not keep the others waiting.

Lower it where snapshots take too much of the disk's or the network's bandwidth from the guests,
raise it where many small guests share fast disks.
""",
    ),
    cfg.IntOpt(
        "snapshot_timeout",
        default=43200,
        min=0,
        help="""
Seconds after which a snapshot that still runs is ended: the stream stops, the guest is as it was,
the image is deleted, and the server's actions say why. 0 lets it run for as long as it makes
progress. The time that it waits for its place does not count.

Every single wait of a snapshot has a bound of its own, so that this one is for what goes on but
takes too long. Raise it where disks are so large that they take longer.
""",
    ),
    cfg.IntOpt(
        "snapshot_pending_timeout",
        default=600,
        min=0,
        help="""
Seconds that a request for a snapshot may wait for its host. It is then ended with a reason, and its
image is deleted: because the host is down, or because the message was lost. A snapshot that ran on
a host that is down ends after the same time since the host's last report. 0 lets both wait until
the host is back.

Every nova-snap-api and nova-snap-compute looks after it, for all the hosts. Raise it where hosts
are down for longer, and what was asked for meanwhile is still wanted when they return.
""",
    ),
    cfg.StrOpt(
        "snapshot_on_down_host",
        default="accept",
        choices=[
            ("accept", "As Nova does: 202. It runs if the host is back in time."),
            ("refuse", "409 with the reason. Nothing is left to wait."),
        ],
        help="""
What becomes of a request for a snapshot whose host is down, by its reports (see service_down_time).

Set it to refuse where users should know at once. What is accepted waits for at most
snapshot_pending_timeout.
""",
    ),
    cfg.IntOpt(
        "database_timeout",
        default=60,
        min=0,
        help="""
Seconds that the database may take to accept a connection, and to answer a statement. After that the
connection is given up, and what was asked is tried again or fails. 0 waits for ever.

Keep it above the time that the database lets a statement wait for a lock (innodb_lock_wait_timeout
of MariaDB and MySQL, 50 seconds), and below that after which your clients give up on the API.
nova-snap-manage db sync has no such bound. Parameters of [database] connection, such as
?read_timeout=90, are used instead where they are there.
""",
    ),
    cfg.IntOpt(
        "report_interval",
        default=10,
        min=1,
        help="""
Seconds between two reports of a compute service to the database that it is alive.

Keep it well below service_down_time: a service that misses a report or two is not down.
""",
    ),
    cfg.IntOpt(
        "service_down_time",
        default=60,
        min=1,
        help="""
Seconds since the last report of a compute service after which it is taken for down: it gets no
new instances, and os-services and host_status say so. The clocks of API and compute hosts must
not differ by nearly as much.
""",
    ),
    cfg.IntOpt(
        "update_resources_interval",
        default=60,
        min=1,
        help="""
Seconds between two looks at what a compute host has and uses, for os-hypervisors.
""",
    ),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=0,
        help="""
Seconds that a stopping service lets running snapshots go on. What is not done by then is cancelled:
the guest is as it was, the image is deleted, the server's actions say why; that may take another
45 seconds, after which the process ends whatever hangs, and which your service manager must grant,
too. 0 cancels at once.

A service that is stopping takes nothing new, and is shown as down after service_down_time: what is
asked of it then is treated as for any host that is down, and waits for at most
snapshot_pending_timeout. What it lets end is safe for as long as this option says.

Requests that still wait for their place go back to RabbitMQ and run after the next start; without
RabbitMQ (transport_url = fake://) they end with a reason.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP, OPTS)]
