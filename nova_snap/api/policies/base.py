# SPDX-License-Identifier: Apache-2.0
"""The rules that the rules of the single routes are made of."""

from typing import Any

from oslo_policy import policy

# Whoever has said who he is.
ANY = "@"
ADMIN = "rule:context_is_admin"
PROJECT_MEMBER_OR_ADMIN = "rule:project_member_or_admin"
PROJECT_READER_OR_ADMIN = "rule:project_reader_or_admin"

RULES = [
    policy.RuleDefault(
        "context_is_admin",
        "role:admin",
        "Who is an administrator: sees the instances of every project.",
    ),
    policy.RuleDefault(
        "project_member_api",
        "role:member and project_id:%(project_id)s",
        "A member of the project that the instance belongs to.",
    ),
    policy.RuleDefault(
        "project_reader_api",
        "role:reader and project_id:%(project_id)s",
        "Someone who may look at what the project has.",
    ),
    policy.RuleDefault(
        "project_member_or_admin",
        "rule:project_member_api or rule:context_is_admin",
        "The default of everything that changes something.",
    ),
    policy.RuleDefault(
        "project_reader_or_admin",
        "rule:project_reader_api or rule:context_is_admin",
        "The default of everything that only shows something.",
    ),
]


def rule(name: str, check: str, description: str, *operations: Any) -> policy.RuleDefault:
    """A rule of a route.

    :param operations: pairs of method and path, as ``("GET", "/servers")``.
    """
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=check,
        description=description,
        operations=[{"method": method, "path": path} for method, path in operations],
        scope_types=["project"],
    )
