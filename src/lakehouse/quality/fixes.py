"""Fix files: what a person wants refused rows of one table to be, and why. Reviewed before it is applied.

::

    table: bronze.snowflake_orders
    why: an export turned the sign of amounts; agreed with finance
    rows:
      - run_id: 20260102T120000Z-…
        position: '00000:000000007'
        set: {STATUS: PAID, CURRENCY: null}
    runs: [20260102T120000Z-…]
    expressions:
      amount_not_negative:
        AMOUNT: abs(cast(AMOUNT AS decimal(18,2)))

``rows`` name single rows: ``set`` gives source fields their new text (null: no value; ``_malformed: null`` says that
the row is whole now), ``value`` replaces the whole row (an object in JSON; of Kafka the event's value, as it is to be
read). ``expressions`` hold for every open row that breaks the rule named, and give a field its new text by Spark SQL
over the row's fields, all of them text (``quality.expressions``). A row's own ``set`` comes after them. A fix starts
from the row as received. ``runs`` keeps the expressions to rows of these runs.
``reasons`` and ``received`` of a row are for the reader; exports fill them in.

Every scalar is text as it is written: 12.50 stays 12.50.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from lakehouse import contracts, store
from lakehouse.contracts import Contract
from lakehouse.errors import UsageError, Violation
from lakehouse.landing import MALFORMED_FIELD
from lakehouse.quality.rules import MALFORMED

_KEYS = {"table", "why", "rows", "runs", "expressions"}
_ROW_KEYS = {"run_id", "position", "set", "value", "reasons", "received"}
HINT = "correct the file; nothing was written"


@dataclass(frozen=True)
class Patch:
    """One row by its identity, and its new fields or its new whole."""

    run_id: str
    position: str
    set: Mapping[str, str | None] = field(default_factory=dict)
    value: str | None = None


@dataclass(frozen=True)
class Fix:
    """A fix file. ``expressions``: rule to field to SQL, for rows of ``runs`` (none: of any run)."""

    table: str
    why: str
    rows: tuple[Patch, ...]
    expressions: Mapping[str, Mapping[str, str]]
    runs: tuple[str, ...] = ()

    @property
    def contract(self) -> Contract:
        return contracts.load(self.table)

    @property
    def source(self) -> str:
        return self.contract.table.split("_")[0]


class _TextLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which only null is no text, and no key comes twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's way of saying it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in seen:
                problem = f"the key {key!r} is given twice" if key in seen else f"the key {key!r} is no text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return cast("dict[Hashable, Any]", super().construct_mapping(node, deep))


_TextLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)


def read_fix(location: str) -> Fix:
    """Read a fix file, a path or ``s3://`` URI. Raises UsageError with everything that is wrong with its form."""
    text = _text_of(location)
    try:
        document = yaml.load(text, Loader=_TextLoader)  # nosec B506  # a safe loader
    except yaml.YAMLError as error:
        raise UsageError(f"{location}: received no YAML: {' '.join(str(error).split())}", hint=HINT) from None
    except RecursionError:
        raise UsageError(f"{location}: received YAML nested beyond reason", hint=HINT) from None
    violations: list[Violation] = []
    fix = _fix(document, violations)
    if violations:
        raise UsageError(f"{location} is no fix file", violations=tuple(violations), hint=HINT)
    return fix


def _text_of(location: str) -> str:
    try:
        body = store.get(location) if location.startswith("s3://") else Path(location).read_bytes()
        if body is None:
            raise UsageError(f"--file {location}: cannot be read: there is no such object")
        return body.decode()
    except OSError as error:
        raise UsageError(f"--file {location}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--file {location}: cannot be read: it is not UTF-8") from None


def _fix(document: object, violations: list[Violation]) -> Fix:
    if not isinstance(document, dict):
        violations.append(
            Violation("the file", _kind(document), f"a mapping with {', '.join(sorted(_KEYS))}")
        )
        return Fix("", "", (), {})
    _only(document, _KEYS, "", violations)
    table = _text(document, "table", "", violations)
    known = contracts.names("bronze")
    if table and table not in known:
        violations.append(Violation("table", table, f"one of {', '.join(known)}"))
        table = ""
    why = _text(document, "why", "", violations)
    rows = _rows(document.get("rows"), violations)
    expressions = _expressions(document.get("expressions"), table, violations)
    runs = document.get("runs") or []
    if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        violations.append(Violation("runs", _kind(runs), "a list of run ids"))
        runs = []
    return Fix(table, why, rows, expressions, tuple(runs))


def _rows(found: object, violations: list[Violation]) -> tuple[Patch, ...]:
    if found is None:
        return ()
    if not isinstance(found, list):
        violations.append(Violation("rows", _kind(found), "a list of rows"))
        return ()
    patches: list[Patch] = []
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(found, start=1):
        where = f"rows[{number}]"
        if not isinstance(row, dict):
            violations.append(Violation(where, _kind(row), "a mapping with run_id and position"))
            continue
        _only(row, _ROW_KEYS, f"{where}.", violations)
        run_id, position = (_text(row, name, f"{where}.", violations) for name in ("run_id", "position"))
        if (run_id, position) in seen:
            violations.append(Violation(where, f"run {run_id} position {position} again", "each row once"))
        seen.add((run_id, position))
        value = row.get("value")
        if value is not None and not isinstance(value, str):
            violations.append(Violation(f"{where}.value", _kind(value), "text"))
            value = None
        changes = _set(row.get("set"), where, violations)
        if value is not None and changes:
            violations.append(Violation(where, "set and value", "one of them"))
        if value is not None or changes:
            patches.append(Patch(run_id, position, changes, value))
    return tuple(patches)


def _set(found: object, where: str, violations: list[Violation]) -> dict[str, str | None]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        violations.append(Violation(f"{where}.set", _kind(found), "a mapping of source field to new text"))
        return {}
    changes: dict[str, str | None] = {}
    for name, value in found.items():
        if value is not None and not isinstance(value, str):
            violations.append(Violation(f"{where}.set.{name}", _kind(value), "text or null"))
        elif name == MALFORMED_FIELD and value is not None:
            violations.append(Violation(f"{where}.set.{name}", repr(value), "null: the row is whole now"))
        else:
            changes[name] = value
    return changes


def _expressions(found: object, table: str, violations: list[Violation]) -> dict[str, dict[str, str]]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        violations.append(Violation("expressions", _kind(found), "a mapping of reason to field to SQL"))
        return {}
    rules = reasons_of(contracts.load(table)) if table else ()
    expressions: dict[str, dict[str, str]] = {}
    for reason, fields in found.items():
        where = f"expressions.{reason}"
        if table and reason not in rules:
            violations.append(Violation(where, "an unknown reason", f"one of {', '.join(rules)}"))
        if not isinstance(fields, dict):
            violations.append(Violation(where, _kind(fields), "a mapping of source field to SQL"))
            continue
        expressions[reason] = {}
        for name, sql in fields.items():
            if not isinstance(sql, str):
                violations.append(Violation(f"{where}.{name}", _kind(sql), "an SQL expression"))
            else:
                expressions[reason][name] = sql
    return expressions


def reasons_of(contract: Contract) -> tuple[str, ...]:
    """Names of the rules that send a row of a table into quarantine."""
    return (MALFORMED, *(rule.name for rule in contract.row_rules if rule.on_failure == "quarantine"))


def source_fields(contract: Contract) -> tuple[str, ...]:
    """The source fields that a contract knows."""
    return tuple(column.source_field for column in contract.columns if column.source_field)


def is_object(text: str) -> bool:
    """Whether a text is a JSON object that names each member once."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict)


def _only(found: Mapping[str, Any], known: set[str], prefix: str, violations: list[Violation]) -> None:
    for name in found.keys() - known:
        violations.append(
            Violation(f"{prefix}{name}", "an unknown key", f"one of {', '.join(sorted(known))}")
        )


def _text(found: Mapping[str, Any], name: str, prefix: str, violations: list[Violation]) -> str:
    value = found.get(name)
    if isinstance(value, str) and value.strip():
        return value
    violations.append(Violation(f"{prefix}{name}", _kind(value), "text"))
    return ""


def _kind(value: object) -> str:
    return {type(None): "nothing", dict: "a mapping", list: "a list"}.get(type(value), repr(value))
