"""Structured logs: one JSON object a line, each with the run id and job; never row data, never a secret.

Our own messages carry neither. What Spark and Delta say of a failure may quote the value that failed: ``masked`` takes
such values, e-mail addresses and telephone numbers out of every line and of every error that is kept. Levels, and the
JVM's lines of the same form, are declared in emr_configs/logging.yaml.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any

# One letter of a word of an address: ASCII, or anything beyond it.
_LETTER = "(?:[A-Za-z0-9{}-]|(?=[^ -~]).)"
# What follows the end of a quoted value, and no quote in its midst (O'Brien): punctuation, the end of the line, or a
# word with which errors go on.
_GOES_ON = "of|with|for|to|from|in|at|is|as|does|do|could|can|cannot|was|were|under|because|must|has"
_CLOSES = f"(?=[],.;:!?)>]| *$| (?:{_GOES_ON}) )"
# Words before a value in the errors of Spark, Delta, Python, Java, Arrow and pydantic.
_BEFORE = "(?<![A-Za-z0-9])((?:value|input|string|text|time data|convert|float|complex|decimal|base [0-9]+)(?::? |=))"

#: Regular expressions of values that errors quote, with what stands there instead. The JVM applies the same
#: (emr_configs/logging.yaml), which is why they have no backslash: a properties file would need it twice. ``(?!.)`` is
#: the end of the text: where a value is cut, or not closed, nothing after it is kept.
VALUES = (
    # An e-mail address; its host may have no dot (jane@localhost).
    (
        "(?<![A-Za-z0-9._%+-])" + _LETTER.format("._%+") + "{1,256}+@" + _LETTER.format("") + "++(?:[.]"
        + _LETTER.format("") + "++)*+",
        "…@…",
    ),
    # A telephone number with its country: +49 30 1234567, +1 (555) 010-9999, 0049/30/1234567.
    (
        "(?:(?<![A-Za-z0-9+])[+]|(?<![A-Za-z0-9+.-])(?<![0-9]:)00)[1-9]"
        "(?:[ ()/.-]?[ ()/.-]?[0-9]){6,14}(?![A-Za-z0-9])",
        "…",
    ),
    # Delta's constraints: "values:" and a line " - column : x" for each.
    (
        "(?ms)^( *- [A-Za-z0-9_.`]+ : ).*?(?=$(?:. *- [A-Za-z0-9_.`]+ : |.[^!-~]*at |.$)|(?!.))",
        r"\1…",
    ),
    # pydantic: "[type=…, input_value='x', input_type=str]".
    ("(?s)(input_value=).*?(?=, input_type=|(?!.))", r"\1…"),
    # Spark: "The value 12 of the type …".
    ("(?i)(the value )[^ '\"]+(?= of the type )", r"\1…"),
    (f"(?ims){_BEFORE}'.*?(?:'{_CLOSES}|(?!.))", r"\1'…'"),
    (f'(?ims){_BEFORE}".*?(?:"{_CLOSES}|(?!.))', r'\1"…"'),
)  # fmt: skip
_VALUES = tuple((re.compile(pattern), instead) for pattern, instead in VALUES)

#: Where no submission says others: a script in a clone.
LEVELS = "root=WARNING,lakehouse=INFO"


def masked(text: str) -> str:
    """A text without the values that errors quote."""
    for pattern, instead in _VALUES:
        text = pattern.sub(instead, text)
    return text


class JsonFormatter(logging.Formatter):
    """Time (UTC), level, logger, message, and the run's fields."""

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
            **self._fields,
        }
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def levels(text: str) -> dict[str, str]:
    """Levels by logger from ``root=WARNING,lakehouse=INFO``. What is no level is left out: no job fails by its logs."""
    found = (pair.partition("=")[::2] for pair in text.split(","))
    known = logging.getLevelNamesMapping()
    return {name.strip(): level.strip() for name, level in found if name.strip() and level.strip() in known}


def configure(**fields: str) -> None:
    """Send the library's logs to stderr as JSON with these fields on every line.

    Levels are those of $LAKEHOUSE_LOG_LEVELS, which every submission sets from emr_configs/logging.yaml.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(**fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name, level in levels(os.environ.get("LAKEHOUSE_LOG_LEVELS") or LEVELS).items():
        logging.getLogger(None if name == "root" else name).setLevel(level)
