"""Reads the ODCS files of the package ``schema_definitions`` into contracts.

A file is refused with everything that is wrong with it at once. Unknown keys are refused too: a misspelt
``maxShare`` must not silently fall back to a default. Validity as ODCS is a matter of the tests, which have
the official JSON schema; this reader checks what the lakehouse relies on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast, get_args

import yaml

from lakehouse.contracts.model import (
    LAYERS,
    Classification,
    Column,
    Contract,
    Layer,
    OnFailure,
    Retention,
    RowRule,
    RowRuleKind,
    SetRule,
    SetRuleKind,
    Severity,
    Sla,
    quote,
    raw_name,
    sha256,
)
from lakehouse.errors import ContractError, Violation
from lakehouse.names import OWN, landed_name

PACKAGE = "schema_definitions"
VOCABULARIES = "vocabularies.yaml"
ENGINE = "lakehouse"

_LOGICAL_TYPES = {
    "string": "string",
    "binary": "string",
    "int": "integer",
    "bigint": "integer",
    "double": "number",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
    "array<string>": "array",
    "array<struct<key:string,value:binary>>": "array",
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_SOURCE_COLUMN = re.compile(r"[a-z]+\.[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_MISSING = object()


def load(name: str) -> Contract:
    """The contract of a table by its dotted name, e.g. ``silver.orders``."""
    if name not in names():
        raise ContractError(
            f"there is no contract for {name}",
            hint=f"tables with a contract: {', '.join(names())}",
        )
    return _load(name)


def load_all(layer: Layer | None = None) -> tuple[Contract, ...]:
    """All contracts, or those of one layer, in the order of the layers and then by name.

    Raises ContractError with the violations of all files together.
    """
    return _all(names(layer), _load)


def load_directory(root: Traversable) -> tuple[Contract, ...]:
    """All contracts below another folder that is laid out like ``schema_definitions``; none where there is none.

    Raises ContractError with the violations of all files together.
    """
    words = root.joinpath(VOCABULARIES)
    vocabularies = load_vocabularies(read_text(words, f"{PACKAGE}/{VOCABULARIES}")) if words.is_file() else {}
    return _all(_names(root, LAYERS), lambda name: parse(name, _text(root, name), vocabularies))


@cache
def names(layer: Layer | None = None) -> tuple[str, ...]:
    """Dotted names of the tables that have a contract file."""
    return tuple(_names(_root(), LAYERS if layer is None else (layer,)))


def parse(name: str, text: str, vocabularies: Mapping[str, tuple[str, ...]]) -> Contract:
    """A contract from the text of its file. Raises ContractError with every violation in it."""
    file = _file(name)
    violations: list[Violation] = []
    root = _Node(read_yaml(text, file), file, "", violations)
    contract = _contract(name, root, vocabularies)
    if violations:
        raise _invalid(violations)
    return contract


def load_vocabularies(text: str) -> dict[str, tuple[str, ...]]:
    """Named lists that ``oneOf`` may refer to. Raises ContractError."""
    file = f"{PACKAGE}/{VOCABULARIES}"
    violations: list[Violation] = []
    loaded = read_yaml(text, file)
    root = _Node({} if loaded is None else loaded, file, "", violations)
    lists = {key: root.texts(key) for key in root.values}
    if violations:
        raise _invalid(violations)
    return lists


def read_text(file: Traversable, where: str) -> str:
    """The text of a file. Raises ContractError where it is not UTF-8: no retry makes it so."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        received = f"bytes that are no UTF-8 ({error.reason} at byte {error.start})"
        raise _invalid([Violation(where, received, "text in UTF-8")]) from error


def read_yaml(text: str, where: str) -> Any:
    """What a YAML text holds. Raises ContractError where it is none, or gives a key twice."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # nosec B506  # a safe loader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # Beside its own errors: a date that is none, a list as a key, a thousand brackets.
        raise _invalid([Violation(where, " ".join(str(error).split()), "YAML")]) from error


@cache
def _load(name: str) -> Contract:
    return parse(name, _text(_root(), name), _vocabularies())


def _all(wanted: Iterable[str], read: Callable[[str], Contract]) -> tuple[Contract, ...]:
    """A contract for each dotted name. Raises ContractError with the violations of all files together."""
    contracts: list[Contract] = []
    violations: list[Violation] = []
    for name in wanted:
        try:
            contracts.append(read(name))
        except ContractError as error:
            violations.extend(error.violations)
    if violations:
        raise _invalid(violations)
    return tuple(contracts)


def _names(root: Traversable, layers: Iterable[Layer]) -> list[str]:
    """Dotted names of the contract files below a folder, in the order of the layers and then by name."""
    found: list[str] = []
    for layer in layers:
        folder = root.joinpath(layer)
        if folder.is_dir():
            files = (entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
            found += sorted(f"{layer}.{file.removesuffix('.yaml')}" for file in files)
    return found


def _text(root: Traversable, name: str) -> str:
    layer, table = name.split(".", 1)
    return read_text(root.joinpath(layer, f"{table}.yaml"), _file(name))


def _file(name: str) -> str:
    return f"{PACKAGE}/{name.replace('.', '/')}.yaml"


@cache
def _vocabularies() -> dict[str, tuple[str, ...]]:
    return load_vocabularies(read_text(_root().joinpath(VOCABULARIES), f"{PACKAGE}/{VOCABULARIES}"))


def _root() -> Traversable:
    return resources.files(PACKAGE)


def _invalid(violations: Iterable[Violation]) -> ContractError:
    return ContractError(
        "contract files are invalid",
        hint="correct the files named; nothing was changed",
        violations=tuple(violations),
    )


class _UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML lets a later key replace an earlier one silently; a contract must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return cast("dict[Hashable, Any]", super().construct_mapping(node, deep))


class _Node:
    """A mapping of the document together with its place; collects violations instead of raising."""

    def __init__(self, value: object, file: str, path: str, violations: list[Violation]) -> None:
        self.file = file
        self.path = path
        self.violations = violations
        self.values: dict[str, Any] = {}
        self._seen: set[str] = set()
        if isinstance(value, dict):
            self.values = {str(key): item for key, item in value.items()}
        else:
            self.fault("", _show(value), "a mapping")

    def fault(self, key: str, received: str, expected: str) -> None:
        path = ".".join(part for part in (self.path, key) if part)
        self.violations.append(Violation(f"{self.file}: {path}" if path else self.file, received, expected))

    def take(self, key: str, default: object = _MISSING) -> Any:
        self._seen.add(key)
        if key in self.values:
            return self.values[key]
        if default is _MISSING:
            self.fault(key, "nothing", "a value")
            return None
        return default

    def text(self, key: str, default: object = _MISSING) -> str:
        value = self.take(key, default)
        if isinstance(value, str) and value.strip():
            return value
        if key in self.values:
            self.fault(key, _show(value), "text")
        return value if isinstance(value, str) else ""

    def text_or_none(self, key: str) -> str | None:
        return self.text(key) if key in self.values else None

    def flag(self, key: str) -> bool:
        value = self.take(key, False)
        if not isinstance(value, bool):
            self.fault(key, _show(value), "true or false")
        return value is True

    def integer(self, key: str, default: object = _MISSING, *, minimum: int = 0) -> int | None:
        value = self.take(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
            return value
        if key in self.values:
            self.fault(key, _show(value), f"a whole number of at least {minimum}")
        return None

    def number(self, key: str) -> float | None:
        value = self.take(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
            return float(value)
        if key in self.values:
            self.fault(key, _show(value), "a number of at least 0")
        return None

    def share(self, key: str, default: float) -> float:
        value = self.take(key, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        self.fault(key, _show(value), "a share between 0 and 1")
        return default

    def choice(self, key: str, allowed: tuple[str, ...], default: object = _MISSING) -> str:
        value = self.take(key, default)
        if value in allowed:
            return str(value)
        if key in self.values:
            self.fault(key, _show(value), f"one of {', '.join(allowed)}")
        return allowed[0]

    def exactly(self, key: str, expected: str) -> None:
        value = self.take(key)
        if key in self.values and value != expected:
            self.fault(key, _show(value), expected)

    def texts(self, key: str, default: object = _MISSING) -> tuple[str, ...]:
        value = self.take(key, default)
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        if key in self.values:
            self.fault(key, _show(value), "a list of texts")
        return ()

    def child(self, key: str, default: object = _MISSING) -> _Node:
        value = self.take(key, default)
        path = ".".join(part for part in (self.path, key) if part)
        if value is None and key not in self.values:
            return _Node({}, self.file, path, [])
        return _Node(value, self.file, path, self.violations)

    def children(self, key: str, default: object = _MISSING) -> list[_Node]:
        """Items of a list; an item's place names it where it has a name."""
        value = self.take(key, default)
        if not isinstance(value, (list, tuple)):
            if key in self.values:
                self.fault(key, _show(value), "a list")
            return []
        nodes: list[_Node] = []
        for index, item in enumerate(value):
            label = str(index)
            if isinstance(item, dict):
                label = str(item.get("name") or item.get("property") or index)
            path = ".".join(part for part in (self.path, f"{key}[{label}]") if part)
            nodes.append(_Node(item, self.file, path, self.violations))
        return nodes

    def pairs(self, key: str, allowed: tuple[str, ...]) -> _Node:
        """A list of {property, value} as one mapping, at the list's place."""
        values: dict[str, Any] = {}
        for node in self.children(key, []):
            name = node.choice("property", allowed)
            value = node.take("value")
            node.done("unit", "description")
            if name in values:
                node.fault("property", name, "each property once")
            if node.values.get("property") in allowed:
                values[name] = value
        path = ".".join(part for part in (self.path, key) if part)
        return _Node(values, self.file, path, self.violations)

    def done(self, *ignored: str) -> None:
        """Refuse every key that nobody has read."""
        for key in sorted(set(self.values) - self._seen - set(ignored)):
            self.fault(key, "an unknown key", f"one of {', '.join(sorted(self._seen | set(ignored)))}")


def _show(value: object) -> str:
    return "nothing" if value is None else repr(value)


def _contract(name: str, root: _Node, vocabularies: Mapping[str, tuple[str, ...]]) -> Contract:
    layer, _, table = name.partition(".")
    root.exactly("kind", "DataContract")
    root.exactly("apiVersion", "v3.1.0")
    root.exactly("id", name)
    root.exactly("name", name)
    root.exactly("status", "active")
    version = root.text("version")
    if version and not _VERSION.fullmatch(version):
        root.fault("version", repr(version), "major.minor.patch")
    domain = root.text("domain")
    about = root.child("description")
    purpose, limitations = about.text("purpose"), about.text("limitations", "")
    about.done("usage")

    objects = root.children("schema")
    if len(objects) != 1:
        root.fault("schema", f"{len(objects)} tables", "exactly one")
    schema = objects[0] if objects else _Node({}, root.file, "schema", [])
    schema.exactly("name", table)
    schema.exactly("physicalName", name)
    schema.exactly("logicalType", "object")
    schema.exactly("physicalType", "table")
    grain = schema.text("dataGranularityDescription")
    columns, key, partition_by = _columns(schema, layer)
    known = tuple(column.name for column in columns)

    custom = schema.pairs(
        "customProperties", ("maxRejectedShare", "zorderBy", "deletionVectors", "autoCompact")
    )
    rejected_share = custom.share("maxRejectedShare", 0.0)
    zorder_by = custom.texts("zorderBy", ())
    deletion_vectors = custom.flag("deletionVectors")
    auto_compact = custom.flag("autoCompact")
    custom.done()
    _known_columns(custom, "zorderBy", zorder_by, known)
    for column in set(zorder_by) & set(partition_by):
        custom.fault("zorderBy", column, "columns that the table is not partitioned by")

    row_rules = _derived_rules(columns, layer, rejected_share)
    set_rules: list[SetRule] = []
    if "maxRejectedShare" in custom.values:
        set_rules.append(
            SetRule(
                name="rejected_rows",
                kind="rejected",
                columns=(),
                severity="critical",
                message=f"At most {rejected_share:.2%} of a run's rows may be refused",
                max_share=rejected_share,
            )
        )
    used: dict[str, tuple[str, ...]] = {}
    for node in schema.children("quality", []):
        rule = _rule(node, columns, rejected_share, vocabularies, used)
        if isinstance(rule, RowRule):
            row_rules.append(rule)
        elif rule is not None:
            set_rules.append(rule)
    seen: set[str] = set()
    for rule_name in [rule.name for rule in row_rules] + [rule.name for rule in set_rules]:
        if rule_name in seen:
            schema.fault(
                f"quality[{rule_name}].name", rule_name, "a name that no other rule of the table has"
            )
        seen.add(rule_name)
    schema.done()

    sla = root.pairs(
        "slaProperties",
        ("frequency", "timeOfAvailability", "deletedFilesRetention", "logRetention", "landingRetention"),
    )
    retention = Retention(
        deleted_files_days=sla.integer("deletedFilesRetention", minimum=7) or 0,
        log_days=sla.integer("logRetention", minimum=7) or 0,
        landing_days=sla.integer("landingRetention", None, minimum=1),
    )
    if retention.log_days < retention.deleted_files_days:
        sla.fault("logRetention", f"{retention.log_days} days", "at least as long as deletedFilesRetention")
    agreed = Sla(
        frequency_days=sla.integer("frequency", None, minimum=1),
        available_by=sla.text_or_none("timeOfAvailability"),
    )
    sla.done()
    root.done("tags")
    return Contract(
        name=name,
        layer=cast("Layer", layer),
        table=table,
        version=version,
        domain=domain,
        description=purpose,
        limitations=limitations,
        grain=grain,
        columns=columns,
        key=key,
        partition_by=partition_by,
        zorder_by=zorder_by,
        deletion_vectors=deletion_vectors,
        auto_compact=auto_compact,
        row_rules=tuple(row_rules),
        set_rules=tuple(set_rules),
        retention=retention,
        sla=agreed,
        content_hash=_content_hash(root, used),
    )


def _content_hash(root: _Node, used: Mapping[str, tuple[str, ...]]) -> str:
    try:
        return sha256({"contract": root.values, "vocabularies": {k: list(v) for k, v in used.items()}})
    except (TypeError, ValueError) as error:
        # YAML has dates, keys that are no text, and entries that hold themselves.
        root.fault("", str(error), "texts, numbers, true and false, in lists and mappings")
        return ""


def _columns(schema: _Node, layer: str) -> tuple[tuple[Column, ...], tuple[str, ...], tuple[str, ...]]:
    columns: list[Column] = []
    keys: dict[int, str] = {}
    partitions: dict[int, str] = {}
    for node in schema.children("properties"):
        name = node.text("name")
        if name and not _NAME.fullmatch(name):
            node.fault("name", repr(name), "lower case letters, digits and underscores")
        if name in {column.name for column in columns}:
            node.fault("name", repr(name), "a name that no other column has")
        physical = node.text("physicalType")
        logical = node.text("logicalType")
        _check_type(node, physical, logical)
        options = node.child("logicalTypeOptions", {})
        max_length = options.integer("maxLength", None, minimum=1)
        options.done()
        custom = node.pairs(
            "customProperties", ("sourceField", "sourceFormat", "sourceTimezone", "provenance", "state")
        )
        column = Column(
            name=name,
            type=physical,
            logical_type=logical,
            required=node.flag("required"),
            classification=cast("Classification", node.choice("classification", get_args(Classification))),
            description=node.text("description"),
            max_length=max_length,
            source_field=custom.text_or_none("sourceField"),
            source_format=custom.text_or_none("sourceFormat"),
            timezone=custom.text_or_none("sourceTimezone"),
            is_provenance=custom.flag("provenance"),
            is_state=custom.flag("state"),
            derived_from=_derived_from(node, layer),
            derivation=node.text_or_none("transformLogic"),
        )
        field = column.source_field
        if field is not None and field.lower() in OWN:
            # A source's field of that name is landed under another one, so that it never takes the place of ours.
            node.fault("sourceField", repr(field), f"{landed_name(field)!r}, as it is landed")
        if layer != "bronze" and custom.values:
            node.fault("customProperties", ", ".join(custom.values), "source properties in Bronze only")
        columns.append(column)
        _position(node, name, "primaryKey", "primaryKeyPosition", keys)
        _position(node, name, "partitioned", "partitionKeyPosition", partitions)
        if node.values.get("primaryKey") and not column.required:
            node.fault("required", "false", "true for a column of the key")
        node.done("items")
    for kind, positions in (("primaryKeyPosition", keys), ("partitionKeyPosition", partitions)):
        if sorted(positions) != list(range(1, len(positions) + 1)):
            schema.fault(f"properties[].{kind}", str(sorted(positions)), f"1 to {len(positions)}")
    if not keys:
        schema.fault("properties", "no primaryKey", "at least one column of the key")
    return (
        tuple(columns),
        tuple(keys[position] for position in sorted(keys)),
        tuple(partitions[position] for position in sorted(partitions)),
    )


def _derived_from(node: _Node, layer: str) -> tuple[tuple[str, str], ...]:
    """The columns that ``transformSourceObjects`` names; whether they exist is asked where all contracts are known."""
    listed = node.texts("transformSourceObjects", ())
    if layer not in ("silver", "gold") and (listed or "transformLogic" in node.values):
        node.fault("transformSourceObjects", "a derivation", "one in Silver and Gold only")
    for text in listed:
        if not _SOURCE_COLUMN.fullmatch(text):
            node.fault("transformSourceObjects", text, "layer.table.column")
    if len(set(listed)) != len(listed):
        node.fault("transformSourceObjects", ", ".join(listed), "each column once")
    parts = (text.rpartition(".") for text in listed)
    return tuple((table, column) for table, _, column in parts)


def _position(node: _Node, name: str, flag: str, position: str, positions: dict[int, str]) -> None:
    if node.flag(flag):
        number = node.integer(position, minimum=1)
        if number in positions:
            node.fault(position, str(number), f"a position that {positions[number]} does not have")
        if number is not None:
            positions.setdefault(number, name)
    elif position in node.values:
        node.take(position)
        node.fault(position, str(node.values[position]), f"{flag}: true beside it")


def _check_type(node: _Node, physical: str, logical: str) -> None:
    if not physical:
        return
    decimal = _DECIMAL.fullmatch(physical)
    if decimal and 1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1]):
        expected = "number"
    elif physical in _LOGICAL_TYPES:
        expected = _LOGICAL_TYPES[physical]
    else:
        node.fault("physicalType", physical, f"one of {', '.join(_LOGICAL_TYPES)}, decimal(p,s)")
        return
    if logical and logical != expected:
        node.fault("logicalType", logical, f"{expected} for {physical}")


def _derived_rules(columns: tuple[Column, ...], layer: str, rejected_share: float) -> list[RowRule]:
    """Rules that follow from a column's own definition, so that nobody writes them twice."""
    rules: list[RowRule] = []
    for column in columns:
        quarantines = layer == "bronze" and not column.is_system

        def add(
            kind: RowRuleKind,
            predicate: str,
            message: str,
            column: Column = column,
            quarantines: bool = quarantines,
        ) -> None:
            rules.append(
                RowRule(
                    name=f"{column.name}_{kind}",
                    kind=kind,
                    columns=(column.name,),
                    predicate=predicate,
                    on_failure="quarantine" if quarantines else "stop",
                    max_share=rejected_share if quarantines else 0.0,
                    severity="critical",
                    message=message,
                )
            )

        name = quote(column.name)
        if column.required:
            add("not_null", f"{name} IS NOT NULL", f"{column.name} must have a value")
        if column.source_field is not None and column.type != "string":
            raw = quote(raw_name(column.name))
            form = f" of the form {column.source_format}" if column.source_format else ""
            zone = f" in {column.timezone} time" if column.timezone else ""
            add(
                "parses",
                f"nullif(trim({raw}), '') IS NULL OR {name} IS NOT NULL",
                f"{column.name} must be of type {column.type}{form}{zone}",
            )
        if column.max_length is not None:
            add(
                "max_length",
                f"length({name}) <= {column.max_length}",
                f"{column.name} must have at most {column.max_length} characters",
            )
    return rules


def _rule(
    node: _Node,
    columns: tuple[Column, ...],
    rejected_share: float,
    vocabularies: Mapping[str, tuple[str, ...]],
    used: dict[str, tuple[str, ...]],
) -> RowRule | SetRule | None:
    known = tuple(column.name for column in columns)
    name, message = node.text("name"), node.text("description")
    severity = cast("Severity", node.choice("severity", get_args(Severity)))
    if "metric" in node.values:
        node.exactly("metric", "duplicateValues")
        if node.take("mustBe") != 0:
            node.fault("mustBe", _show(node.values.get("mustBe")), "0")
        arguments = node.child("arguments")
        listed = arguments.texts("properties")
        arguments.done()
        _known_columns(arguments, "properties", listed, known)
        node.done("dimension")
        return SetRule(name=name, kind="unique", columns=listed, severity=severity, message=message)
    node.exactly("type", "custom")
    node.exactly("engine", ENGINE)
    body = node.child("implementation")
    node.done("dimension")
    kind = body.choice("rule", ("row", "duplicates", "volume", "freshness", "jump", "referential"))
    if body.values.get("rule") != kind:
        return None
    if kind == "row":
        return _row_rule(body, name, message, severity, columns, rejected_share, vocabularies, used)
    rule = _set_rule(body, name, message, severity, cast("SetRuleKind", kind))
    _known_columns(body, "columns", rule.columns, known)
    body.done()
    return rule


def _row_rule(
    body: _Node,
    name: str,
    message: str,
    severity: Severity,
    columns: tuple[Column, ...],
    rejected_share: float,
    vocabularies: Mapping[str, tuple[str, ...]],
    used: dict[str, tuple[str, ...]],
) -> RowRule:
    known = tuple(column.name for column in columns)
    kind: RowRuleKind
    if "oneOf" in body.values:
        kind = "one_of"
        column = body.text("column")
        _known_columns(body, "column", (column,), known)
        listed = body.take("oneOf")
        if isinstance(listed, str):
            if listed not in vocabularies:
                body.fault("oneOf", listed, f"a list, or one of {', '.join(sorted(vocabularies))}")
            used[listed] = values = vocabularies.get(listed, ())
        else:
            values = body.texts("oneOf")
        predicate = f"{quote(column)} IN ({', '.join(_literal(value) for value in values)})"
        about: tuple[str, ...] = (column,)
    else:
        kind = "predicate"
        predicate = body.text("predicate")
        about = _mentioned(predicate, known)
        if predicate and not about:
            body.fault("predicate", predicate, "a condition on columns of the table")
    on_failure = cast("OnFailure", body.choice("onFailure", get_args(OnFailure)))
    max_share = body.share("maxShare", rejected_share if on_failure == "quarantine" else 0.0)
    body.done()
    return RowRule(
        name=name,
        kind=kind,
        columns=about,
        predicate=predicate,
        on_failure=on_failure,
        max_share=max_share,
        severity=severity,
        message=message,
    )


def _set_rule(body: _Node, name: str, message: str, severity: Severity, kind: SetRuleKind) -> SetRule:
    if kind == "duplicates":
        return SetRule(
            name, kind, body.texts("columns"), severity, message, max_share=body.share("maxShare", 0.0)
        )
    if kind == "volume":
        low, high = body.integer("minRows", None), body.integer("maxRows", None)
        if low is None and high is None:
            body.fault("minRows", "nothing", "minRows, maxRows or both")
        return SetRule(name, kind, (), severity, message, min_rows=low, max_rows=high)
    if kind == "freshness":
        return SetRule(
            name, kind, (body.text("column"),), severity, message, max_age_hours=body.number("maxAgeHours")
        )
    if kind == "jump":
        about = (body.text("column"), body.text("orderBy"), *body.texts("per"))
        days = body.integer("withinDays", minimum=1)
        return SetRule(
            name, kind, about, severity, message, max_share=body.share("maxChange", 0.0), within_days=days
        )
    columns, referenced = body.texts("columns"), body.texts("referencedColumns")
    if len(columns) != len(referenced):
        body.fault("referencedColumns", ", ".join(referenced), f"as many columns as {', '.join(columns)}")
    return SetRule(
        name,
        kind,
        columns,
        severity,
        message,
        max_share=body.share("maxShare", 0.0),
        references=body.text("references"),
        referenced_columns=referenced,
    )


def _known_columns(node: _Node, key: str, listed: Iterable[str], known: tuple[str, ...]) -> None:
    for column in listed:
        if column and column not in known:
            node.fault(key, column, f"columns of the table: {', '.join(known)}")


def _mentioned(predicate: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Columns that a predicate names, in the order of the table."""
    words = set(re.findall(r"\w+", re.sub(r"'(?:[^']|'')*'", " ", predicate)))
    return tuple(column for column in known if column in words)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
