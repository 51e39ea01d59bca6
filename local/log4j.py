"""Log4j 2 properties of a local JVM: the levels of emr_configs/logging.yaml, on stderr, in UTC."""

from __future__ import annotations

from pathlib import Path

import yaml

_LEVELS = Path(__file__).resolve().parent.parent / "emr_configs" / "logging.yaml"
_CONSOLE = {
    "rootLogger.appenderRef.stderr.ref": "stderr",
    "appender.stderr.type": "Console",
    "appender.stderr.name": "stderr",
    "appender.stderr.target": "SYSTEM_ERR",
    "appender.stderr.layout.type": "PatternLayout",
    "appender.stderr.layout.pattern": "%d{yyyy-MM-dd HH:mm:ss.SSS}{UTC}Z %p %c{1}: %m%n%ex",
}


def properties() -> str:
    """The text of a log4j2.properties file."""
    levels: dict[str, str] = yaml.safe_load(_LEVELS.read_text(encoding="utf-8"))
    return "".join(f"{key} = {value}\n" for key, value in (_CONSOLE | levels).items())
