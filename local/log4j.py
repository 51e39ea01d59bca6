"""Log4j 2 properties of local JVMs, by emr_configs/logging.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

_LOGGING = Path(__file__).resolve().parent.parent / "emr_configs" / "logging.yaml"
# What EMR's file has of its own: EMR Serverless lets nobody configure these six.
_CONSOLE = {
    "rootLogger.appenderRef.stdout.ref": "console",
    "appender.console.type": "Console",
    "appender.console.name": "console",
    "appender.console.target": "SYSTEM_ERR",
    "appender.console.layout.type": "PatternLayout",
    "appender.console.layout.pattern": "%d{yyyy-MM-dd HH:mm:ss.SSS}{UTC}Z %p %c{1}: %m%n%ex",
}


def option(file: Path) -> str:
    """The JVM option that names such a file. As a URI: Log4j takes a path for one, spaces and umlauts included."""
    return f"-Dlog4j2.configurationFile={file.as_uri()}"


def properties() -> str:
    """A log4j2.properties file for a person at a terminal: the levels of the jobs, plain text on stderr, in UTC."""
    declared: dict[str, str] = yaml.safe_load(_LOGGING.read_text(encoding="utf-8"))["jvm"]
    levels = {key: value for key, value in declared.items() if _is_level(key)}
    return _text(_CONSOLE | levels)


def with_overrides(overrides: Mapping[str, str]) -> str:
    """EMR's file with the properties of a submission."""
    return _text({"rootLogger.level": "info", **overrides, **_CONSOLE})


def _is_level(key: str) -> bool:
    return key == "rootLogger.level" or key.startswith("logger.")


def _text(values: Mapping[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in values.items())
