"""Whether a command of the AWS command line exists: service, operation, options, values of a fixed set, by botocore's
service models. No account is asked, and the command line itself need not be installed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import UnknownServiceError

_GLOBAL_VALUES = {
    *("--region", "--profile", "--output", "--query", "--endpoint-url", "--ca-bundle", "--color"),
    *("--cli-read-timeout", "--cli-connect-timeout", "--cli-binary-format"),
}
_GLOBAL_FLAGS = {"--debug", "--no-verify-ssl", "--no-paginate", "--no-sign-request", "--no-cli-pager"}
_ANY_OPERATION = {"--cli-input-json", "--cli-input-yaml", "--generate-cli-skeleton"}
_PAGES = {"--max-items", "--page-size", "--starting-token"}
_GLOBALS_OF_OUTPUT = {"json", "text", "table", "yaml", "yaml-stream", "off"}
# Commands of the command line's own, which no service model knows: their options, and how many words they take.
_S3_TRANSFER = {
    *("--recursive", "--exclude", "--include", "--dryrun", "--quiet", "--only-show-errors", "--no-progress"),
    *("--acl", "--sse", "--sse-kms-key-id", "--storage-class", "--content-type", "--metadata", "--page-size"),
    *("--request-payer", "--source-region", "--expires", "--cache-control", "--no-follow-symlinks"),
}
_S3: Mapping[str, tuple[set[str], range]] = {
    "cp": (_S3_TRANSFER, range(2, 3)),
    "mv": (_S3_TRANSFER, range(2, 3)),
    "sync": (_S3_TRANSFER | {"--delete", "--size-only", "--exact-timestamps"}, range(2, 3)),
    "ls": (
        {"--recursive", "--human-readable", "--summarize", "--page-size", "--request-payer"},
        range(0, 2),
    ),
    "rm": (_S3_TRANSFER, range(1, 2)),
    "mb": (set(), range(1, 2)),
    "rb": ({"--force"}, range(1, 2)),
    "presign": ({"--expires-in"}, range(1, 2)),
}
_S3_VALUES = {
    *("--exclude", "--include", "--acl", "--sse", "--sse-kms-key-id", "--storage-class", "--content-type"),
    *("--metadata", "--page-size", "--request-payer", "--source-region", "--expires", "--cache-control"),
    "--expires-in",
}
_TAIL = {"--since", "--format", "--filter-pattern", "--log-stream-names", "--log-stream-name-prefix"}
_CONFIGURE = {"list", "get", "set", "list-profiles", "sso", "import", "add-model", "export-credentials"}


def problems(words: Sequence[str]) -> list[str]:
    """What is wrong with ``aws …``, given as its words; empty where nothing is."""
    try:
        rest, given = _without_globals(list(words[1:]))
    except ValueError as problem:
        return [str(problem)]
    if given.get("--output", "json") not in _GLOBALS_OF_OUTPUT:
        return [f"--output: received {given['--output']!r}, expected one of {_some(_GLOBALS_OF_OUTPUT)}"]
    if not rest:
        return ["received no service"]
    service, *more = rest
    if service == "configure":
        return [] if not more or more[0] in _CONFIGURE else [_unlike("aws configure", more[0], _CONFIGURE)]
    if service == "s3":
        return _s3(more)
    if [service, *more[:1]] == ["logs", "tail"]:
        return _tail(more[1:])
    try:
        model = _model("s3" if service == "s3api" else service)
    except UnknownServiceError:
        return [_unlike("service", service, _services())]
    operations = {xform_name(name).replace("_", "-"): name for name in model.operation_names}
    if not more:
        return [f"{service}: received no operation"]
    if more[0] == "wait":
        waiters = {xform_name(name).replace("_", "-") for name in _waiters(model.service_name)}
        return [] if more[1:] and more[1] in waiters else [_unlike(f"{service} wait", more[1:2], waiters)]
    if more[0] not in operations:
        return [_unlike(f"operation of {service}", more[0], operations)]
    return _operation(f"{service} {more[0]}", model.operation_model(operations[more[0]]), more[1:])


def _operation(name: str, operation: Any, words: Sequence[str]) -> list[str]:
    shape = operation.input_shape
    members: dict[str, Any] = {} if shape is None else dict(shape.members)
    by_option = {f"--{xform_name(member, '-')}": member for member in members}
    flags = {
        spelled
        for option, member in by_option.items()
        if members[member].type_name == "boolean"
        for spelled in (option, f"--no-{option[2:]}")
    }
    found: list[str] = []
    seen: dict[str, list[str]] = {}
    current: str | None = None
    if operation.has_streaming_output:
        if not words or words[-1].startswith("--"):
            return [f"{name} needs, as its last word, a file for what it answers"]
        words = words[:-1]
    for word in words:
        if word.startswith("--"):
            current, _, value = word.partition("=")
            seen[current] = [value] if value else []
            if current not in by_option.keys() | flags | _ANY_OPERATION | _PAGES:
                found.append(_unlike(f"option of {name}", current, by_option.keys() | flags))
        elif current is None:
            found.append(f"{name}: received {word!r}, expected an option")
        else:
            seen[current].append(word)
    for option, values in seen.items():
        if option in flags:
            if values:
                found.append(f"{name}: {option} takes no value, received {values[0]!r}")
        elif not values:
            found.append(f"{name}: {option} needs a value")
        elif option in by_option:
            found += _values(f"{name}: {option}", members[by_option[option]], values)
    if shape is not None and not seen.keys() & _ANY_OPERATION:
        given = {by_option[option] for option in seen if option in by_option}
        given |= {
            by_option[f"--{option[5:]}"]
            for option in seen
            if option.startswith("--no-") and f"--{option[5:]}" in by_option
        }
        for member in shape.required_members:
            # The command line makes tokens of idempotency itself.
            if member not in given and not members[member].metadata.get("idempotencyToken"):
                found.append(f"{name} needs --{xform_name(member, '-')}")
    return found


def _values(where: str, shape: Any, values: Sequence[str]) -> list[str]:
    """Values against the model's fixed set; what is known only at run time, or is a document, is not judged."""
    item = shape.member if shape.type_name == "list" else shape
    if shape.type_name not in ("list", "structure", "map") and len(values) > 1:
        return [f"{where} takes one value, received {len(values)}"]
    allowed = getattr(item, "enum", None)
    if not allowed:
        return []
    return [
        f"{where}: received {value!r}, expected one of {_some(allowed)}"
        for value in values
        if value not in allowed and not value.startswith(("[", "{", "file://")) and "$" not in value
    ]


def _without_globals(words: list[str]) -> tuple[list[str], dict[str, str]]:
    rest: list[str] = []
    given: dict[str, str] = {}
    at = 0
    while at < len(words):
        option, equals, value = words[at].partition("=")
        if option in _GLOBAL_FLAGS:
            pass
        elif option in _GLOBAL_VALUES:
            if not equals:
                at += 1
                if at == len(words):
                    raise ValueError(f"{option} needs a value")
                value = words[at]
            given[option] = value
        else:
            rest.append(words[at])
        at += 1
    return rest, given


def _s3(words: Sequence[str]) -> list[str]:
    if not words or words[0] not in _S3:
        return [_unlike("aws s3", words[:1], _S3)]
    options, count = _S3[words[0]]
    found: list[str] = []
    places: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("--"):
            places.append(word)
        elif word.partition("=")[0] not in options:
            found.append(_unlike(f"option of s3 {words[0]}", word, options))
        elif word in _S3_VALUES and next(rest, None) is None:
            found.append(f"s3 {words[0]}: {word} needs a value")
    if len(places) not in count:
        found.append(f"s3 {words[0]}: received {len(places)} places, expected {count.start}")
    elif words[0] in ("cp", "mv", "sync") and not any(p.startswith(("s3://", "$")) for p in places):
        found.append(f"s3 {words[0]}: received no s3:// place")
    return found


def _tail(words: Sequence[str]) -> list[str]:
    """``aws logs tail GROUP``: the group, and options with a value, but for --follow."""
    found: list[str] = []
    groups: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _TAIL:
            if next(rest, None) is None:
                found.append(f"logs tail: {word} needs a value")
        elif word.startswith("--") and word != "--follow":
            found.append(_unlike("option of logs tail", word, _TAIL | {"--follow"}))
        elif word != "--follow":
            groups.append(word)
    if len(groups) != 1:
        found.append(f"logs tail: received {len(groups)} log groups, expected 1")
    return found


def _unlike(what: str, received: str | Sequence[str], known: Iterable[str]) -> str:
    word = received if isinstance(received, str) else " ".join(received)
    near = difflib.get_close_matches(word, list(known), 3)
    expected = f"one of {_some(near)}" if near else f"one of {_some(known)}"
    return f"{what}: received {word!r}, expected {expected}"


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:12]) + (", …" if len(found) > 12 else "")


@cache
def _session() -> Any:
    return botocore.session.Session()


@cache
def _services() -> frozenset[str]:
    return frozenset(_session().get_available_services())


@cache
def _model(service: str) -> Any:
    return _session().get_service_model(service)


@cache
def _waiters(service: str) -> frozenset[str]:
    try:
        return frozenset(_session().get_waiter_model(service).waiter_names)
    except Exception:  # a service without waiters
        return frozenset()
