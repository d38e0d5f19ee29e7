"""The reference at ``/v1/docs``: one page made from the OpenAPI document, with nothing fetched from anywhere else."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from mailfleet.listen.http_auth import SCOPES
from mailfleet.listen.http_docs_page import CSS, PAGE
from mailfleet.listen.http_problems import KINDS

_CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_METHODS = ("get", "post", "put", "patch", "delete")


def install(app: FastAPI) -> None:
    """Serve the reference and its style sheet."""
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(PAGE)

    @app.get("/v1/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        page = template.render(**_Reference(app.openapi(), str(request.base_url).rstrip("/")).variables())
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": _CSP})

    @app.get("/v1/docs.css", include_in_schema=False)
    async def style() -> Response:
        return Response(CSS, media_type="text/css")


class _Reference:
    """The OpenAPI document, arranged for reading."""

    def __init__(self, document: dict[str, Any], base_url: str) -> None:
        self._document = document
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        self._base_url = base_url

    def variables(self) -> dict[str, Any]:
        """What the template shows."""
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if method in item:
                    operation = item[method]
                    groups[operation["tags"][0]].append(self._operation(path, method, operation))
        info = self._document["info"]
        return {
            "version": info["version"],
            "description": prose(info["description"]),
            "groups": dict(groups),
            "scopes": SCOPES,
            "kinds": KINDS,
            "schemas": {name: self._schema(schema) for name, schema in sorted(self._schemas.items())},
            "anchor": lambda text: re.sub(r"\W+", "-", text.lower()),
        }

    def _operation(self, path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
        bodies = operation.get("requestBody", {}).get("content", {})
        answers = [
            (
                status,
                {"Successful Response": "Done." if status == "204" else ""}.get(
                    answer["description"], answer["description"]
                ),
                [name for content in answer.get("content", {}).values() if (name := _named(content["schema"]))],
            )
            for status, answer in operation["responses"].items()
            if status.startswith("2")
        ]
        scopes = [scope for needed in operation.get("security", []) for scope in needed.get("token", [])]
        return {
            "id": operation["operationId"],
            "method": method.upper(),
            "path": path,
            "summary": operation["summary"],
            "description": prose(operation.get("description", "")),
            "parameters": [
                {
                    "name": parameter["name"],
                    "place": parameter["in"],
                    "type": self._type(parameter["schema"]),
                    "required": parameter.get("required", False),
                    "description": prose(parameter.get("description", "")),
                }
                for parameter in operation.get("parameters", [])
            ],
            "bodies": [
                {"type": media_type, "schema": _named(content["schema"]), "parts": self._parts(content["schema"])}
                for media_type, content in bodies.items()
            ],
            "answers": answers,
            "scopes": scopes,
            "examples": self._examples(path, method, bodies, secured=bool(operation.get("security"))),
        }

    def _parts(self, schema: dict[str, Any]) -> list[tuple[str, str | None, Markup]]:
        return [
            (name, _named(part), prose(part.get("description", "")))
            for name, part in schema.get("properties", {}).items()
        ]

    def _examples(self, path: str, method: str, bodies: dict[str, Any], *, secured: bool) -> list[str]:
        """The request as commands for the shell, one for each way to send it."""
        start = ["curl" + (f" -X {method.upper()}" if method == "delete" or (method == "post" and not bodies) else "")]
        if secured:
            start.append('-H "Authorization: Bearer $TOKEN"')
        ways: list[list[str]] = [[]] if "application/json" not in bodies else []
        if "application/json" in bodies:
            name = _named(bodies["application/json"]["schema"])
            example = self._example_of(self._schemas[name]) if name else {}
            text = json.dumps(example, ensure_ascii=False).replace("'", "'\\''")
            ways.append(["-H 'Content-Type: application/json'", f"-d '{text}'"])
        if "multipart/form-data" in bodies:
            ways.append(
                ["-F 'campaign=@campaign.json;type=application/json'", "-F 'recipients=@list.csv;type=text/csv'"]
            )
        if "message/rfc822" in bodies:
            ways.append(["-H 'Content-Type: message/rfc822'", "--data-binary @message.eml"])
        return [" \\\n  ".join([*start, *way, self._base_url + path]) for way in ways]

    def _example_of(self, schema: dict[str, Any]) -> Any:
        if schema.get("examples"):
            return schema["examples"][0]
        if "$ref" in schema:
            return self._example_of(self._schemas[_named(schema) or ""])
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("type") == "object":
            required = schema.get("required", [])
            return {
                name: self._example_of(member)
                for name, member in schema.get("properties", {}).items()
                if name in required or "examples" in member
            }
        if schema.get("type") == "array":
            return [self._example_of(schema["items"])]
        return schema.get("default", "text")

    def _schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        required = schema.get("required", [])
        return {
            "description": prose(schema.get("description", "")),
            "members": [
                {
                    "name": name,
                    "type": self._type(member),
                    "required": name in required,
                    "description": prose(member.get("description", "")),
                }
                for name, member in schema.get("properties", {}).items()
            ],
        }

    def _type(self, schema: dict[str, Any]) -> Markup:
        """A type in words; named ones as links."""
        name = _named(schema)
        if name:
            return Markup('<a href="#schema-{0}">{0}</a>').format(name)
        if "anyOf" in schema:
            return Markup(" or ").join(self._type(option) for option in schema["anyOf"])
        if "enum" in schema:
            return Markup(" | ").join(Markup("<code>{}</code>").format(value) for value in schema["enum"])
        kind = schema.get("type", "any value")
        if kind == "array":
            return Markup("list of {}").format(self._type(schema.get("items", {})))
        if schema.get("contentEncoding"):
            return escape(schema["contentEncoding"])
        return escape(schema.get("format") or kind)


def _named(schema: dict[str, Any]) -> str | None:
    reference = schema.get("$ref")
    return str(reference).rpartition("/")[2] if reference else None


def prose(text: str) -> Markup:
    """Paragraphs with ``code`` in backticks; everything else is text."""
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        pieces = paragraph.split("`")
        paragraphs.append(
            Markup("").join(
                Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece)
                for index, piece in enumerate(pieces)
            )
        )
    return Markup("</p><p>").join(paragraphs)
