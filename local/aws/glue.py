"""Glue's catalog as unkind as the service: what it refuses, folds and adds to what it was given. moto does none of it.

Lengths and patterns are those of the service model (botocore's glue/service-2.json); the API reference counts lengths
in bytes. The wording is that of the service's ValidationException.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.models import DEFAULT_ACCOUNT_ID

CHECKED = ("CreateDatabase", "UpdateDatabase", "CreateTable", "UpdateTable")
# Names that the service gives the members of these calls in its messages.
SPOKEN = {"TableInput": "table", "DatabaseInput": "database"}
TABLE_DEFAULTS: dict[str, Any] = {
    "Retention": 0,
    "CreatedBy": f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:root",
    "IsRegisteredWithLakeFormation": False,
    "IsMultiDialectView": False,
}
STORAGE_DEFAULTS: dict[str, Any] = {
    "Compressed": False,
    "NumberOfBuckets": 0,
    "BucketColumns": [],
    "SortColumns": [],
    "Parameters": {},
    "SkewedInfo": {
        "SkewedColumnNames": [],
        "SkewedColumnValues": [],
        "SkewedColumnValueLocationMaps": {},
    },
    "StoredAsSubDirectories": False,
}


class Invalid(JsonRESTError):
    """A ValidationException that names every member at fault."""

    def __init__(self, faults: list[str]):
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected"
        super().__init__("ValidationException", f"{count}: {'; '.join(faults)}")


def install() -> None:
    """Put it over moto's Glue. Call once per process."""
    from moto.glue.models import FakeTable, GlueBackend
    from moto.glue.responses import GlueResponse

    for operation in CHECKED:
        _check(GlueResponse, operation)
    for name, folded in (
        *((name, 1) for name in ("create_database", "get_database", "update_database", "delete_database")),
        *((name, 2) for name in ("create_table", "get_table", "update_table", "delete_table")),
    ):
        setattr(GlueBackend, name, _folding(getattr(GlueBackend, name), folded))
    _add_defaults(FakeTable)


def _check(response: Any, operation: str) -> None:
    name = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower()
    original = getattr(response, name)

    def checked(self: Any) -> Any:
        faults = list(_faults(_model().operation_model(operation).input_shape, json.loads(self.body), ""))
        if faults:
            raise Invalid(faults)
        return original(self)

    setattr(response, name, checked)


@functools.cache
def _model() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("glue")


def _faults(shape: Any, value: Any, path: str) -> Iterator[str]:
    """What the service would say of the value, member by member."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for required in shape.required_members:
            if value.get(required) is None:
                yield f"Value null at '{_at(path, required)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _faults(member, value[name], _at(path, name))
    elif shape.type_name == "list" and isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "map" and isinstance(value, dict):
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{path}.key")
            yield from _faults(shape.value, item, f"{path}.{key}.value")
    elif shape.type_name == "string" and isinstance(value, str):
        for constraint in _text_faults(shape.metadata, value):
            yield f"Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"


def _text_faults(limits: dict[str, Any], value: str) -> Iterator[str]:
    size = len(value.encode(errors="surrogatepass"))
    if size < limits.get("min", 0):
        yield f"Member must have length greater than or equal to {limits['min']}"
    if size > limits.get("max", size):
        yield f"Member must have length less than or equal to {limits['max']}"
    if "pattern" in limits and not _pattern(limits["pattern"]).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {limits['pattern']}"


@functools.cache
def _pattern(java: str) -> re.Pattern[str]:
    """Java writes characters beyond 16 bits as two; Python as one."""
    return re.compile(java.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"))


def _at(path: str, member: str) -> str:
    name = SPOKEN.get(member, member[:1].lower() + member[1:])
    return f"{path}.{name}" if path else name


def _folding(original: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Names of databases and tables are kept, and found, in lower case."""

    @functools.wraps(original)
    def call(self: Any, *names: Any, **named: Any) -> Any:
        folded = [
            name.lower() if isinstance(name, str) and i < count else name for i, name in enumerate(names)
        ]
        for given in folded[count:]:
            if isinstance(given, dict) and "Name" in given:
                given["Name"] = given["Name"].lower()
        return original(self, *folded, **named)

    return call


def _add_defaults(table: Any) -> None:
    as_dict = table.as_dict

    def complete(self: Any, version: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = TABLE_DEFAULTS | {"UpdateTime": self.created_time} | as_dict(self, version)
        if "StorageDescriptor" in found:
            found["StorageDescriptor"] = STORAGE_DEFAULTS | found["StorageDescriptor"]
        return found

    table.as_dict = complete
