"""Structured logs: one JSON object a line, each with the run id and job; never row data, never a secret (masks).

Levels, and the JVM's lines of the same form, are declared in emr_configs/logging.yaml.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from lakehouse.masks import masked

#: Where no submission says others: a script in a clone.
LEVELS = "root=WARNING,lakehouse=INFO"


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
