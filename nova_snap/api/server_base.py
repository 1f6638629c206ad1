# SPDX-License-Identifier: Apache-2.0
"""What everything below ``/servers`` has in common: finding the server, and showing it."""

from collections.abc import Mapping, Sequence

from oslo_config import cfg
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.api import policies, text
from nova_snap.api.policies import extended_server_attributes
from nova_snap.api.policies import servers as rules
from nova_snap.api.views import server_status
from nova_snap.api.views import servers as views
from nova_snap.api.views.links import Links
from nova_snap.api.wsgi import Request
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.objects.service import COMPUTE, Service


class ServerController:
    """What the controllers of servers are made from."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def _get_server(self, context: RequestContext, server_id: str) -> Instance:
        """The instance, if it is one that the context may know of.

        :raises nova_snap.exception.InstanceNotFound: also for what is no uuid at all.
        """
        if not uuidutils.is_uuid_like(server_id):
            raise exception.InstanceNotFound(instance_id=text.shorten(server_id))
        return Instance.get_by_uuid(context, server_id)

    def _authorized_server(self, context: RequestContext, server_id: str, rule: str) -> Instance:
        """The instance, for those whom the rule lets.

        :raises nova_snap.exception.InstanceNotFound: as :meth:`_get_server`.
        :raises nova_snap.api.policies.PolicyNotAuthorized: for whoever may know of it, and no more.
        """
        instance = self._get_server(context, server_id)
        self._enforcer.authorize(context, rule, {"project_id": instance.project_id})
        return instance

    def _visible(
        self, context: RequestContext, target: Mapping[str, str | None] | None
    ) -> views.Visibility:
        def allows(rule: str) -> bool:
            return self._enforcer.allows(context, rule, target)

        host_status = views.HostStatus.NONE
        if allows(rules.SHOW_HOST_STATUS):
            host_status = views.HostStatus.ANY
        elif allows(rules.SHOW_HOST_STATUS_UNKNOWN):
            host_status = views.HostStatus.UNKNOWN_ONLY
        return views.Visibility(
            extended_attributes=allows(extended_server_attributes.EXTENDED_ATTRIBUTES),
            extra_specs=allows(rules.SHOW_EXTRA_SPECS),
            host_status=host_status,
            fault_details=bool(context.is_admin),
        )

    def _links(self, request: Request) -> Links:
        return Links(self._conf, request)

    def _view_builder(self, request: Request) -> views.ViewBuilder:
        return views.ViewBuilder(self._links(request), request.microversion)

    def _with_related(
        self, context: RequestContext, instances: Sequence[Instance], visible: views.Visibility
    ) -> list[views.Shown]:
        """The instances with their disks, and with what else is shown of them."""
        disks = BlockDeviceMappingList.by_instance_uuids(
            context, [instance.uuid for instance in instances]
        )
        failed = [
            instance.uuid
            for instance in instances
            if server_status.of(instance) in server_status.WITH_FAULT
        ]
        faults = InstanceFault.latest_by_instance_uuids(context, failed) if failed else {}
        hosts: Mapping[str, str] = {}
        if visible.host_status is not views.HostStatus.NONE:
            hosts = self._host_statuses(context)
        return [
            views.Shown(
                instance,
                disks[instance.uuid],
                faults.get(instance.uuid),
                hosts.get(instance.host, "UNKNOWN") if instance.host else "",
                self._conf.default_availability_zone if instance.host else "",
            )
            for instance in instances
        ]

    def _host_statuses(self, context: RequestContext) -> Mapping[str, str]:
        """Nova's word for the state of each compute service, by host."""
        found = {}
        for service in Service.get_all(context, binary=COMPUTE):
            if service.forced_down:
                status = "DOWN"
            elif not service.is_up(self._conf.service_down_time):
                status = "UNKNOWN"
            else:
                status = "MAINTENANCE" if service.disabled else "UP"
            found[service.host] = status
        return found
