"""The app keeps to its OpenAPI document, whatever is sent to it."""

from __future__ import annotations

from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Err
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

_CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def _try(operation: Any, mode: Any) -> None:
    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(operation.as_strategy(generation_mode=mode))
    def answers(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": "Bearer all"}, checks=_CHECKS)

    answers()


def test_answers_are_as_documented_whatever_is_sent(app: FastAPI) -> None:
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    found = schema.exclude(path="/v1/events").get_all_operations()  # followed, it never ends; test_http_api has it
    operations: list[Any] = [result.ok() for result in found if not isinstance(result, Err)]
    assert len(operations) > 20
    for operation in operations:
        _try(operation, GenerationMode.POSITIVE)
        if operation.body or operation.query:
            _try(operation, GenerationMode.NEGATIVE)
