# SPDX-License-Identifier: Apache-2.0
"""A description of the API in OpenAPI 3.1, made of the route table and the schemas.

A microversion is an API of its own: each has its own description.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from nova_snap.api import microversion, routes
from nova_snap.api.microversion import Microversion
from nova_snap.api.operations import OPERATIONS, Operation, resolve
from nova_snap.api.schemas.types import STRING, Schema, closed

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_TOKEN: Final = "token"  # noqa: S105 - the name of a scheme

_FAULT: Final[Schema] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": closed({"code": {"type": "integer"}, "message": STRING}),
}
_ERRORS: Final = {
    "4XX": {"$ref": "#/components/responses/Fault"},
    "5XX": {"$ref": "#/components/responses/Fault"},
}


def describe(version: Microversion = microversion.MAX) -> dict[str, Any]:
    """The description of one microversion."""
    paths = {}
    for template, methods in routes.ROUTES.items():
        if version.minor <= routes.LAST_MINOR.get(template, version.minor):
            paths[template] = _path(template, methods, version)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nova_snap",
            "summary": "OpenStack's compute API, for servers and their images",
            "version": str(version),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8774"}],
        "paths": paths,
        "components": {
            "securitySchemes": {_TOKEN: {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "responses": {
                "Fault": {
                    "description": "What went wrong, under a key that says what kind it is.",
                    "content": _json(_FAULT),
                }
            },
        },
    }


def _path(
    template: str, methods: Mapping[str, tuple[str, str]], version: Microversion
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": STRING}
        for name in _PARAMETER.findall(template)
    ]
    if template not in routes.UNVERSIONED_PATHS:
        # Without it the answer is that of the oldest version.
        value = {"const": f"{microversion.SERVICE_TYPE} {version}"}
        parameters.append(
            {"name": microversion.HEADER, "in": "header", "required": True, "schema": value}
        )
    if parameters:
        found["parameters"] = parameters
    for method, target in methods.items():
        described = _operation(OPERATIONS[target], version)
        described["operationId"] = f"{target[0]}.{target[1].lstrip('_')}"
        if template == "/v2.1/":
            described["operationId"] += ".slash"
        if template not in routes.PUBLIC_PATHS:
            described["security"] = [{_TOKEN: []}]
        found[method.lower()] = described
    return found


def _operation(operation: Operation, version: Microversion) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        schema = resolve(answer, version)
        answers[str(status)] = {"description": HTTPStatus(status).phrase}
        if schema:
            answers[str(status)]["content"] = _json(schema)
    found: dict[str, Any] = {"summary": operation.summary, "responses": {**answers, **_ERRORS}}
    query = resolve(operation.query, version)
    if query is not None:
        found["parameters"] = [
            {"name": name, "in": "query", "schema": schema, "style": "form", "explode": True}
            for name, schema in query.get("properties", {}).items()
        ]
    body = resolve(operation.body, version)
    if body is not None:
        found["requestBody"] = {"required": True, "content": _json(body)}
    return found


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
