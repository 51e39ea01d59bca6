"""YAML files that people write, read without surprises: every mistake has a file, a line and a path.

Of YAML 1.1 only what cannot mislead is taken: ``true`` and ``false`` are the only booleans (NO is a country, ``on`` a
word), dates are text until a field asks for a date, numbers with a point are Decimal. Anchors, aliases, tags and
repeated keys are refused: the first three make bombs, the last loses what was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from lakehouse.errors import Violation

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]


class Part(BaseModel):
    """A mapping in a file: unknown keys are refused, and nothing is taken for what it is not ("4" is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _exact(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _day(value: Any) -> Any:
    try:
        return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else value
    except ValueError:
        return value


_Item = TypeVar("_Item")
Many = Annotated[tuple[_Item, ...], Field(strict=False)]
Exact = Annotated[Decimal, BeforeValidator(_exact)]
Day = Annotated[date, BeforeValidator(_day)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Text = Annotated[str, StringConstraints(max_length=4_000)]
#: Long enough to say something.
Reason = Annotated[str, StringConstraints(min_length=8, max_length=1_000)]

#: Of one file. YAML is read in Python; more rules go into more files.
MOST_BYTES = 262_144
_DEEPEST = 40
_SHOWN = 80


@dataclass
class Document:
    """A file's values, the line of each, and what is wrong with it."""

    name: str
    values: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    mistakes: list[Violation] = field(default_factory=list)

    def where(self, place: Place) -> str:
        """``config/dq_rules/orders.yaml:12 tables[0].rules[1].columns``; a missing key has its parent's line."""
        line = next(
            (self.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.lines), None
        )
        return f"{self.name}{f':{line}' if line else ''}{f' {path(place)}' if place else ''}"

    def mistake(self, place: Place, received: str, expected: str) -> None:
        self.mistakes.append(Violation(self.where(place), received, expected))


def path(place: Place) -> str:
    """A place in a document as people write it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def shown(value: Any) -> str:
    """A value as a message has it."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = "nothing" if value is None else str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def read(file: Path, name: str) -> Document:
    """A file as values with their lines; ``name`` is what messages call it. What is wrong is in ``mistakes``."""
    document = Document(name)
    try:
        raw = file.read_bytes()
    except OSError as error:
        document.mistake((), error.strerror or type(error).__name__, "a readable file")
        return document
    if len(raw) > MOST_BYTES:
        document.mistake((), f"{len(raw)} bytes", f"at most {MOST_BYTES}")
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        document.lines[()] = line
        document.mistake((), f"the byte 0x{raw[error.start]:02x}", "a text in UTF-8")
        return document
    parse(text, document)
    return document


def validated(document: Document, model: type[Model]) -> Model | None:
    """The values as a model, None where there are mistakes: all of them are then in ``mistakes``."""
    if document.mistakes:
        return None
    values = {} if document.values is None else document.values
    if not isinstance(values, Mapping):
        document.mistake((), shown(values), f"a mapping with {', '.join(model.model_fields)}")
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for item in _errors(error):
            _add(item, document)
        return None


def _errors(error: ValidationError) -> list[ErrorDetails]:
    """Each mistake once: a list of which an item is wrong is not too short as well."""
    found = error.errors(include_url=False)
    inner = {item["loc"][:-1] for item in found}
    return [item for item in found if item["type"] != "too_short" or item["loc"] not in inner]


def _add(item: ErrorDetails, document: Document) -> None:
    place = _place(document.values, item["loc"], keep_last=item["type"] == "missing")
    received = "nothing" if item["type"] == "missing" else shown(item["input"])
    if item["type"] == "extra_forbidden":
        received = "a key that nothing reads"
    if item["type"] == "union_tag_invalid":
        received = f"the kind {item['ctx']['tag']}"
    document.mistake(place, received, _expected(item))


#: pydantic's words for developers, in those of the person who wrote the file.
_WORDS = {
    "extra_forbidden": "one of the keys that docs/dq-rules.md lists",
    "missing": "a value",
    "tuple_type": "a list",
    "is_instance_of": "a number",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "text (in quotes, where it looks like a number)",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "date_type": "a day, as 2026-01-31",
    "union_tag_not_found": "a kind",
    "union_tag_invalid": "a kind, one of {expected_tags}",
    "too_short": "at least {min_length} in the list",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "recursion_loop": "fewer levels",
}


def _expected(item: ErrorDetails) -> str:
    words = _WORDS.get(item["type"])
    if words is not None:
        return words.format(**item.get("ctx", {}))
    return item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _place(values: Any, found: tuple[int | str, ...], *, keep_last: bool) -> Place:
    """pydantic's place without the names of kinds and models, which are no part of the document."""
    place: list[str | int] = []
    for part in found:
        there = (
            range(len(values)) if isinstance(values, list) else values if isinstance(values, Mapping) else ()
        )
        if part in there:
            values = values[part]
            place.append(part)
    return (*place, found[-1]) if keep_last else tuple(place)


# Reading -----------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (yaml's own form)


for _tag, _form, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)$", "~nN\0"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+$|[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,3})$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_form), ["" if c == "\0" else c for c in _first]
    )


def parse(text: str, document: Document) -> None:
    """YAML into the document: its values and lines, or what is wrong with it."""
    loader = None
    try:
        loader = _Loader(text)
        _refuse_references(text, document)
        node = None if document.mistakes else loader.get_single_node()
        if node is not None:
            document.values = _value(node, (), document)
    except yaml.MarkedYAMLError as error:
        marks = [mark.line for mark in (error.problem_mark, error.context_mark) if mark is not None]
        document.lines[()] = marks[0] + 1 if marks else 1
        document.mistake((), str(error.problem or error.context), "valid YAML")
    except yaml.YAMLError as error:
        place = getattr(error, "position", 0)
        document.lines[()] = text[:place].count("\n") + 1
        document.mistake((), "a control character", "a text")
    finally:
        if loader is not None:
            loader.dispose()


def _refuse_references(text: str, document: Document) -> None:
    """And nesting that no file needs: reading it would take the square of its depth."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is None and tag is None and depth <= _DEEPEST:
            continue
        document.lines[()] = event.start_mark.line + 1 if event.start_mark else 1
        received = f"the tag {tag}" if tag is not None else f"{depth} levels"
        received = received if anchor is None else f"the anchor or alias {anchor}"
        document.mistake((), received, f"neither anchors, aliases nor tags, and at most {_DEEPEST} levels")
        return


def _value(node: yaml.Node, place: Place, document: Document) -> Any:
    document.lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, number), document) for number, item in enumerate(node.value)]
    return _scalar(node.tag.rpartition(":")[2], str(node.value))


def _mapping(node: yaml.MappingNode, place: Place, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in node.value:
        name = str(key.value)
        document.lines[(*place, name)] = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            document.lines[place] = key.start_mark.line + 1
            document.mistake(place, "a list or mapping as a key", "a word")
        elif name in found:
            document.mistake((*place, name), "the key a second time", "each key once")
        else:
            line = document.lines[(*place, name)]
            found[name] = _value(item, (*place, name), document)
            document.lines[(*place, name)] = line
    return found


def _scalar(tag: str, text: str) -> Any:
    if tag == "bool":
        return text.lower() == "true"
    if tag == "null":
        return None
    if tag == "int":
        return int(text) if len(text) <= 40 else text
    return Decimal(text) if tag == "float" else text
