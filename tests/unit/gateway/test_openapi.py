"""The OpenAPI document: valid, complete in words and in reasons, without dead parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.gateway.http.described import DESCRIBED
from services.gateway.http.described_route import Route
from services.gateway.http.problems import KNOWN
from services.gateway.http.request import KEYLESS, OPEN
from tests.unit.gateway.desk import document

pytestmark = pytest.mark.unit
Json = dict[str, Any]
# What no declared operation answers: another path, another method.
# Told by no operation, and on pages of HTML alone.
OUTSIDE = {
    *("not_found", "method_not_allowed"),
    *("connect_unknown", "connect_denied", "connect_elsewhere", "connect_expired", "connect_used"),
}


@pytest.fixture(name="document")
def _document() -> Json:
    return document()


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_the_document_is_valid(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    found = list(OpenAPIV31SpecValidator(document).iter_errors())
    assert not found, [(list(error.absolute_path), error.message[:200]) for error in found]


def test_every_parameter_of_a_path_is_declared(document: Json) -> None:
    for method, path, operation in operations(document):
        named = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"]
        assert sorted(named) == sorted(re.findall(r"{(\w+)}", path)), f"{method} {path}"


def test_everything_is_said_in_words(document: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) == len(DESCRIBED)
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        place = f"{method} {path}"
        assert operation["summary"], place
        assert operation["description"], place
        assert set(operation["tags"]) <= tags, place
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{place}: {parameter['name']}"
            assert {"type", "enum", "$ref"} & parameter["schema"].keys(), place
        for response in operation["responses"].values():
            assert response["description"], place
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description") or name in BLOCKS, name


WITHOUT_KEY = OPEN | KEYLESS
BLOCKS = {
    *("Image", "Pdf", "Url", "File", "PlainText", "Citations"),
    *("TextBlock", "ImageBlock", "DocumentBlock", "SearchResultBlock"),
}


def test_every_operation_declares_its_key(document: Json) -> None:
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for _, path, operation in operations(document):
        assert operation["security"] == ([] if path in WITHOUT_KEY else [{"key": []}])
        assert ("401" in operation["responses"]) == (path not in WITHOUT_KEY)


@pytest.mark.parametrize("place", DESCRIBED, ids=" ".join)
def test_every_reason_to_refuse_has_its_status_and_its_words(
    place: tuple[str, str], document: Json
) -> None:
    route: Route = DESCRIBED[place]
    assert len(route.refuses) == len(set(route.refuses))
    responses = document["paths"][place[1]][place[0].lower()]["responses"]
    for word in route.refuses:
        status, title = KNOWN[word]
        response = responses[str(status)]
        assert f"`{word}`: {title}" in response["description"]
        assert response["content"].keys() == {"application/problem+json"}
        assert ("Retry-After" in response.get("headers", {})) == (status in (429, 503))


def test_no_reason_is_left_out_of_every_route() -> None:
    declared = {word for route in DESCRIBED.values() for word in route.refuses}
    assert KNOWN.keys() - declared == OUTSIDE


def test_no_schema_is_unused(document: Json) -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert used == document["components"]["schemas"].keys()
