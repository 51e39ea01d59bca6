"""The local Snowflake and the local AWS, as a run of the checks meets them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

from dq_runner.config import Config, read_config
from dq_runner.report import Report, ResultRow
from dq_runner.runner import Settings, run
from dq_runner.session import Place, Session, Sessions
from local.saas import credentials
from local.snowflake.admin import Admin
from tests.support import snowflake_double

AT = datetime(2026, 11, 29, 6, tzinfo=UTC)
SECRET = "snowflake/dq-platform-credentials"
PLATFORM = """
include: {databases: [SALES], schemas: [PUBLIC], tables: ["*"]}
date_column: {names: [LOADED_AT, "*_AT"]}
anomalies: {on: false}
"""


@dataclass
class Snow:
    """The double, with a user who may do everything and one who only reads."""

    port: int
    admin: Admin
    opened: Any

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        with self.opened.cursor() as cursor:
            yield cursor

    def do(self, *statements: str) -> None:
        with self.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def table(
        self, name: str, *rows: str, columns: str = "ID VARCHAR, AMOUNT NUMBER(10,2), LOADED_AT TIMESTAMP_NTZ"
    ) -> None:
        """A table of SALES.PUBLIC with rows as SQL has them: ('a', 1, '2026-11-28')."""
        made = [f"CREATE OR REPLACE TABLE SALES.PUBLIC.{name} ({columns})"]
        if rows:
            made.append(f"INSERT INTO SALES.PUBLIC.{name} VALUES {', '.join(rows)}")
        self.do(*made)

    def asked(self, run_id: str = "") -> list[dict[str, Any]]:
        """The statements of a run, in their order, with their query tags parsed."""
        found = [query | {"tag": json.loads(query["tag"] or "{}")} for query in self.admin.queries()]
        return [query for query in found if query["tag"].get("run_id") == run_id or not run_id]


@pytest.fixture(scope="session")
def _running_double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snow]:
    secret = credentials.SNOWFLAKE
    with (
        snowflake_double(tmp_path_factory.mktemp("snowflake")) as port,
        snowflake.connector.connect(
            account="local",
            user=secret["username"],
            password=secret["password"],
            host="127.0.0.1",
            port=port,
            protocol="http",
            login_timeout=20,
            network_timeout=20,
        ) as opened,
    ):
        yield Snow(port, Admin("127.0.0.1", port), opened)


@pytest.fixture
def snow(_running_double: Snow) -> Iterator[Snow]:
    """A double without tables but the orders', which are empty and quiet."""
    double = _running_double
    double.admin.reset()
    yield double
    double.admin.clear_faults()
    with double.cursor() as cursor:
        found = cursor.execute(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM SALES.INFORMATION_SCHEMA.TABLES "
            "WHERE TABLE_SCHEMA <> 'INFORMATION_SCHEMA' AND TABLE_NAME <> 'ORDERS'"
        ).fetchall()
        for schema, name, kind in found:
            what = "VIEW" if kind == "VIEW" else "TABLE"
            quoted = str(name).replace('"', '""')
            cursor.execute(f'DROP {what} SALES."{schema}"."{quoted}"')


@pytest.fixture
def connected(snow: Snow, signed_in: dict[str, str]) -> Iterator[Session]:
    """A session of the user who only reads."""
    with Sessions(place(snow), "a-run", 30).open() as session:
        yield session


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the runner's secret holds, where no test of Secrets Manager is made: the user who only reads, by token."""
    from lakehouse import snowflake as library
    from lakehouse.secrets import Secret

    held = {
        "account": "local",
        "user": credentials.SNOWFLAKE_DQ["username"],
        "role": credentials.SNOWFLAKE_DQ["role"],
        "warehouse": credentials.SNOWFLAKE_DQ["warehouse"],
        "token": credentials.SNOWFLAKE_DQ_TOKEN,
    }
    monkeypatch.setattr(library, "read_secret", lambda *_: Secret(held))
    return held


def place(snow: Snow, network_timeout_seconds: int = 10) -> Place:
    return Place(SECRET, "127.0.0.1", snow.port, "http", network_timeout_seconds)


def configured(folder: Path, platform: str = PLATFORM, rules: str = "") -> Config:
    """Settings as files have them."""
    (folder / "config" / "dq_rules").mkdir(parents=True, exist_ok=True)
    (folder / "config" / "dq_platform.yaml").write_text(platform)
    if rules:
        (folder / "config" / "dq_rules" / "rules.yaml").write_text(rules)
    return read_config(folder / "config")


Runs = Callable[..., Report]


@pytest.fixture
def checked(snow: Snow, signed_in: dict[str, str], tmp_path: Path) -> Runs:
    """Run the checks against the double; nothing is published."""

    def checks(platform: str = PLATFORM, rules: str = "", **given: Any) -> Report:
        config = configured(tmp_path, platform, rules)
        timeout = given.pop("network_timeout_seconds", 10)
        return run(
            config,
            Settings(place(snow, timeout)),
            at=given.pop("at", AT),
            run_id=given.pop("run_id", "a-run"),
            **given,
        )

    return checks


@pytest.fixture
def reports(lake: str) -> str:
    """The name of a bucket for reports; the environment leads to it."""
    return lake.removeprefix("s3://")


def rows_of(report: Report, table: str, status: str = "") -> list[ResultRow]:
    return [row for row in report.results if row.table == table and status in ("", row.status)]
