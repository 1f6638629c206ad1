# SPDX-License-Identifier: Apache-2.0
"""Who may do what: rules in code, one module per noun, overridable by ``policy.yaml``."""

from collections.abc import Mapping

from oslo_config import cfg
from oslo_policy import policy

from nova_snap import exception
from nova_snap.api.policies import (
    aggregates,
    availability_zone,
    base,
    create_backup,
    extended_server_attributes,
    extensions,
    flavors,
    hypervisors,
    instance_actions,
    limits,
    quota_sets,
    server_actions,
    server_metadata,
    servers,
    services,
)
from nova_snap.context import RequestContext

_MODULES = (
    base,
    servers,
    create_backup,
    instance_actions,
    extended_server_attributes,
    server_actions,
    server_metadata,
    flavors,
    services,
    hypervisors,
    availability_zone,
    limits,
    extensions,
    aggregates,
    quota_sets,
)


class PolicyNotAuthorized(exception.Forbidden):
    """:ivar action: the rule that said no."""

    action: str
    msg = "Policy doesn't allow {self.action} to be performed."


class Enforcer:
    """Answers whether a context may do a thing.

    :param conf: ``[oslo_policy] policy_file`` names the file whose rules replace those in code.
        It is read again whenever it changes.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._enforcer = _make(conf)
        # A file that cannot be used must stop the start, not the first request.
        self._enforcer.load_rules()

    def authorize(
        self, context: RequestContext, rule: str, target: Mapping[str, str | None] | None = None
    ) -> None:
        """Refuse what the rule refuses.

        :param target: what is acted on; the context's own project and user if not given.
        :raises PolicyNotAuthorized: with the name of the rule.
        """
        if not self.allows(context, rule, target):
            raise PolicyNotAuthorized(action=rule)

    def allows(
        self, context: RequestContext, rule: str, target: Mapping[str, str | None] | None = None
    ) -> bool:
        """Whether the rule lets the context do it."""
        if target is None:
            target = {"project_id": context.project_id, "user_id": context.user_id}
        try:
            return bool(self._enforcer.authorize(rule, dict(target), context))
        except policy.InvalidScope:
            return False

    def is_admin(self, context: RequestContext) -> bool:
        """Whether the context is an administrator's."""
        return self.allows(context, "context_is_admin")


def list_rules() -> list[policy.RuleDefault]:
    """Every rule, for oslopolicy-sample-generator."""
    return [rule for module in _MODULES for rule in module.RULES]


def get_enforcer() -> policy.Enforcer:
    """An enforcer with the configuration of this host, for the oslopolicy tools."""
    conf = cfg.ConfigOpts()
    conf([], project="nova_snap", prog="nova-snap")
    return _make(conf)


def _make(conf: cfg.ConfigOpts) -> policy.Enforcer:
    enforcer = policy.Enforcer(conf)
    enforcer.register_defaults(list_rules())
    return enforcer
