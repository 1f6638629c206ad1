# SPDX-License-Identifier: Apache-2.0
"""The parts that the processes are built from, put together in one place."""

from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from nova_snap.api import app
from nova_snap.compute import api, notifications, rpcapi
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_api import LifecycleAPI
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.periodic import Periodic
from nova_snap.compute.reaper import Reaper
from nova_snap.compute.service import ComputeService
from nova_snap.compute.volume_leftovers import VolumeLeftovers
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.db.session import Database
from nova_snap.image import glance
from nova_snap.virt import fake
from nova_snap.virt.driver import ComputeDriver, ImageService
from nova_snap.volume import cinder

WSGIApplication = Callable[..., Any]


def driver(conf: cfg.ConfigOpts, image_api: ImageService) -> ComputeDriver:
    """The driver that ``compute_driver`` names, not yet connected."""
    if conf.compute_driver == "fake.FakeDriver":
        return fake.FakeDriver(conf, image_api)
    # Only a host with libvirt's library can import this.
    from nova_snap.virt.libvirt.driver import LibvirtDriver

    return LibvirtDriver(conf, image_api)


def compute_service(
    conf: cfg.ConfigOpts, database: Database, transport: oslo_messaging.Transport
) -> ComputeService:
    """A compute host, not yet started."""
    image_api = glance.API(conf)
    locks = InstanceLocks()
    hypervisor = driver(conf, image_api)
    notifier = notifications.make(conf)
    compute_rpcapi = rpcapi.ComputeAPI(conf, transport)
    manager = ComputeManager(conf, database, image_api, hypervisor, notifier, locks, compute_rpcapi)
    lifecycle = LifecycleManager(conf, database, image_api, hypervisor, locks)
    heartbeat = Heartbeat(conf, database, hypervisor)
    volumes = VolumeManager(conf, database, image_api, cinder.API(conf), hypervisor)
    return ComputeService(conf, transport, manager, lifecycle, heartbeat, volumes)


def api_application(
    conf: cfg.ConfigOpts, database: Database, transport: oslo_messaging.Transport
) -> WSGIApplication:
    """The REST API as a WSGI application."""
    image_api, compute_rpcapi = glance.API(conf), rpcapi.ComputeAPI(conf, transport)
    return app.build_app(
        conf,
        database,
        api.API(conf, image_api, compute_rpcapi, cinder.API(conf)),
        LifecycleAPI(conf, image_api, compute_rpcapi),
        image_api,
    )


def api_housekeeping(conf: cfg.ConfigOpts, database: Database) -> Periodic:
    """What an API process looks after for hosts that are down, not yet started."""
    image_api = glance.API(conf)
    leftovers = VolumeLeftovers(conf, image_api, cinder.API(conf))
    return Reaper(conf, image_api).periodic(database, leftovers.tasks())
