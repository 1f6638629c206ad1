# SPDX-License-Identifier: Apache-2.0
"""What a client sends that knows the API's description, or breaks it on purpose: schemathesis."""

import json
import random
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import hypothesis

from tests.functional.api import openapi_cases
from tests.fuzz import wsgi_calls
from tests.fuzz.target import Finding
from tests.fuzz.targets.api import API

_EXAMPLES: Final = 20


class OpenAPI(API):
    """An input is an operation and the seed of its examples."""

    bound = 120.0
    renew_after = 5
    each = _EXAMPLES

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._operations = openapi_cases.operations()

    def seeds(self) -> Sequence[bytes]:
        return [_pack(number, 0) for number in range(len(self._operations))]

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        return _pack(dice.randrange(len(self._operations)), dice.randrange(1 << 32))

    def run(self, data: bytes) -> Hashable:
        given = json.loads(data)
        name, operation = self._operations[given["operation"] % len(self._operations)]
        settings = hypothesis.settings(
            max_examples=_EXAMPLES,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )

        @hypothesis.seed(given["seed"])
        @settings
        @hypothesis.given(openapi_cases.cases(operation))
        def ask(case: Any) -> None:
            self.log.clear()
            openapi_cases.ask(self._watched, operation, case)

        try:
            ask()
        except Finding:
            raise
        except Exception as error:
            raise Finding(f"{type(error).__name__} of {name}", str(error)[:2000]) from error
        return name

    def _watched(self, environ: dict[str, Any], start_response: Any) -> Any:
        answer = wsgi_calls.Answer(self.service.app, environ)
        made = wsgi_calls.call(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        # What else is in an answer the description tells.
        made["environ"] = {key: value for key, value in environ.items() if isinstance(value, str)}
        wsgi_calls.check(made, answer, self.log, frozenset({501}))
        start_response(f"{answer.status} -", answer.headers)
        return [answer.body]


def _pack(number: int, seed: int) -> bytes:
    return json.dumps({"operation": number, "seed": seed}).encode()


TARGET = OpenAPI
