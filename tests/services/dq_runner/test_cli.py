"""scripts/dq.py as people and gates use it: exit codes, JSON, files, and words in place of stack traces."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_runner import cli, muting, session
from dq_runner.config import read_config
from dq_runner.model import Mute, TableName
from dq_runner.patterns import matches_table, written
from dq_runner.report import Report
from dq_runner.session import Place, read_place
from lakehouse.errors import ConfigError, UsageError
from local.bootstrap import DQ_REPORTS_BUCKET, DQ_SECRET
from tests.services.dq_runner.conftest import PLATFORM, SECRET, Snow, configured
from tests.services.dq_runner.reports import report, row
from tests.support import REPO, load_script

TODAY = date(2026, 11, 29)
NAME = TableName("SALES", "PUBLIC", "ORDERS")
RULES = """
tables:
  - table: SALES.PUBLIC.GOODS
    owner: sales
    rules:
      - {kind: not_null, columns: [ID], severity: critical}
    off:
      - {rule: range, column: AMOUNT, reason: refunds are booked as negative amounts}
"""
Commands = Callable[..., int]


@pytest.fixture
def dq(snow: Snow, signed_in: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A command on settings of the test's own, against the double; without a bucket."""
    configured(tmp_path, PLATFORM, RULES)
    monkeypatch.setenv("SNOWFLAKE_SECRET_NAME", SECRET)
    monkeypatch.setenv("SNOWFLAKE_HOST", "127.0.0.1")
    monkeypatch.setenv("SNOWFLAKE_PORT", str(snow.port))
    monkeypatch.setenv("SNOWFLAKE_PROTOCOL", "http")
    monkeypatch.delenv("S3_DQ_REPORTS_BUCKET", raising=False)
    # Airflow, in tests that came before, has the root logger write to stdout: a command of its own knows nothing of it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def command(*words: str) -> int:
        return cli.main([*words, "--config", str(tmp_path / "config")])

    return command


def yesterday() -> str:
    return (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d 12:00:00")


def test_a_run_is_a_gate(
    dq: Commands, snow: Snow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snow.table("GOODS", f"('a', -1, '{yesterday()}')")
    assert dq("run") == cli.HELD
    words = capsys.readouterr().out
    assert "SALES.PUBLIC.GOODS" in words
    assert "every critical rule holds" in words

    snow.do(f"INSERT INTO SALES.PUBLIC.GOODS VALUES (NULL, 1, '{yesterday()}')")
    out = tmp_path / "report.json"
    assert dq("run", "--json", "--out", str(out)) == cli.BROKEN
    told = capsys.readouterr()
    assert Report.model_validate_json(told.out) == Report.model_validate_json(out.read_bytes())
    assert "failed  critical  not_null(ID): 1 of 2 rows" in told.err

    snow.admin.fault(match=r"COUNT\(\*\)[\s\S]*GOODS", code="003001", times=0)
    assert dq("run") == cli.NOT_CHECKED
    assert "grant the role SELECT" in capsys.readouterr().out


def test_what_cannot_be_checked_and_what_is_wrong_with_a_command_are_told_apart(
    dq: Commands,
    signed_in: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dq("run", "--table", "NO_SUCH_TABLE") == cli.USAGE
    assert "NO_SUCH_TABLE" in capsys.readouterr().err
    signed_in["token"] = "a-token-of-nobody"
    assert dq("run", "--json") == cli.NOT_CHECKED
    told = capsys.readouterr()
    assert told.err.startswith("dq: CREDENTIALS: ")
    assert "What to do: " in told.err
    assert json.loads(told.out)["error"]["code"] == "CREDENTIALS"
    monkeypatch.delenv("SNOWFLAKE_SECRET_NAME")
    assert dq("discover") == cli.USAGE
    assert "SNOWFLAKE_SECRET_NAME" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        dq("run", "--date", "yesterday")
    assert left.value.code == cli.USAGE


def test_a_day_to_come_is_refused_before_anything_is_asked(
    dq: Commands, snow: Snow, capsys: pytest.CaptureFixture[str]
) -> None:
    snow.table("GOODS", f"('a', 1, '{yesterday()}')")
    assert dq("run", "--date", "2999-01-01") == cli.USAGE
    assert "received the day 2999-01-01, expected" in capsys.readouterr().err
    assert dq("run", "--date", str(datetime.now(UTC).date())) == cli.HELD


def test_a_report_that_could_not_be_written_costs_no_query(
    dq: Commands, snow: Snow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dq("run", "--out", str(tmp_path / "nowhere" / "report.json")) == cli.USAGE
    assert "received no folder" in capsys.readouterr().err
    assert snow.admin.queries() == []


def test_the_name_that_was_meant_is_said(
    dq: Commands, snow: Snow, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("A", "B", "C", "D", "E", "F", "PAYMENTS"):
        snow.table(name, f"('a', 1, '{yesterday()}')")
    assert dq("explore", "payment") == cli.USAGE
    assert "there are: SALES.PUBLIC.PAYMENTS\n" in capsys.readouterr().err


def test_one_of_a_thing_is_not_called_many(
    dq: Commands, snow: Snow, capsys: pytest.CaptureFixture[str]
) -> None:
    snow.table("GOODS", f"('a', 1, '{yesterday()}')")
    dq("discover")
    assert "to be checked: 1 of 2 tables; 3 queries" in capsys.readouterr().out
    dq("run", "--table", "GOODS")
    assert "of 1 table: " in capsys.readouterr().out
    dq("rules", "check")
    assert "1 rule in 1 entry, 0 mutes" in capsys.readouterr().out


def test_without_its_packages_the_command_says_what_to_activate() -> None:
    bare = subprocess.run(
        [sys.executable, "-S", str(REPO / "scripts" / "dq.py"), "rules", "check"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    assert (bare.returncode, bare.stdout) == (cli.USAGE, "")
    assert "source .venv/bin/activate" in bare.stderr
    assert "Traceback" not in bare.stderr


def test_discover_says_what_is_checked_and_what_is_not(
    dq: Commands, snow: Snow, capsys: pytest.CaptureFixture[str]
) -> None:
    snow.table("GOODS", f"('a', 1, '{yesterday()}')")
    snow.table("OLD", "('a', 1, '2020-01-01')")
    snow.table("CODES", "('a')", columns="CODE VARCHAR")
    assert dq("discover", "--json") == cli.HELD
    states = {each["table"].split(".")[-1]: each["state"] for each in json.loads(capsys.readouterr().out)}
    assert states == {"GOODS": "checked", "OLD": "quiet", "ORDERS": "quiet", "CODES": "skipped"}


def test_explore_shows_a_table_and_a_file_that_is_one(
    dq: Commands, snow: Snow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snow.table("GOODS", f"('a', 1, '{yesterday()}')", f"(NULL, 1, '{yesterday()}')")
    assert dq("explore", "goods") == cli.HELD
    words = capsys.readouterr().out
    assert "50.0 % null" in words
    assert "config/dq_rules/ declares it of SALES.PUBLIC.GOODS" in words
    assert "switched off: refunds are booked as negative amounts" in words
    assert dq("explore", "SALES.PUBLIC.GOODS", "--json") == cli.HELD
    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["nulls"] for one in found["columns"]} == {"ID": 1, "AMOUNT": 0, "LOADED_AT": 0}
    (tmp_path / "config" / "dq_rules" / "rules.yaml").write_text(found["suggestion"])
    [entry] = read_config(tmp_path / "config").declared
    assert entry.table == "SALES.PUBLIC.GOODS"
    assert "not_null(AMOUNT)" in {rule.title for rule in entry.made()}


def test_rules_check_asks_nobody_and_says_every_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SNOWFLAKE_SECRET_NAME", raising=False)
    configured(tmp_path, PLATFORM, RULES)
    folder = tmp_path / "config"
    (folder / "dq_mutes.yaml").write_text(
        "mutes: [{table: SALES.PUBLIC.GOODS, rule: x, reason: long ago and gone, until: 2020-01-01}]\n"
    )
    assert cli.main(["rules", "check", "--config", str(folder)]) == cli.HELD
    assert "expired on 2020-01-01" in capsys.readouterr().out
    (folder / "dq_rules" / "rules.yaml").write_text(RULES.replace("columns", "colums").replace("off", "of"))
    assert cli.main(["rules", "check", "--json", "--config", str(folder)]) == cli.USAGE
    told = capsys.readouterr()
    violations = json.loads(told.out)["error"]["violations"]
    assert len(violations) >= 2
    assert all("rules.yaml:" in one["where"] for one in violations)
    assert "Traceback" not in told.err


def test_help_teaches() -> None:
    script = [sys.executable, str(REPO / "scripts" / "dq.py")]
    told = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    taught = (
        "scripts/dq.py explore SALES.PUBLIC.ORDERS",
        "exit codes",
        "11  a critical",
        "SNOWFLAKE_SECRET_NAME",
    )
    for words in taught:
        assert words in told


def a_mute(**changed: object) -> Mute:
    values = {
        "rule": "range(AMOUNT)",
        "table": "SALES.PUBLIC.ORDERS",
        "reason": "refunds of the old shop",
        "until": TODAY + timedelta(days=30),
        "by": "jo@example.com",
    }
    return Mute(**(values | changed))  # type: ignore[arg-type]


def test_mute_adds_a_line_that_is_found_again(
    dq: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "report.json"
    known.write_bytes(report("run-1", [row("range(AMOUNT)")]).to_json())
    until = str(datetime.now(UTC).date() + timedelta(days=9))
    given = ["mute", "SALES.PUBLIC.ORDERS", "range(AMOUNT)", "--reason", "refunds: known", "--until", until]
    assert dq(*given, "--by", "jo", "--report", str(known)) == cli.HELD
    [mute] = read_config(tmp_path / "config").mutes
    assert (mute.table, mute.rule, str(mute.until)) == ("SALES.PUBLIC.ORDERS", "range(AMOUNT)", until)
    assert dq(*given, "--by", "jo", "--report", str(known)) == cli.USAGE
    assert "already" in capsys.readouterr().err
    assert dq("mute", "ORDERS", "range(AMOUNTS)", *given[3:], "--report", str(known)) == cli.USAGE
    assert "range(AMOUNT)" in capsys.readouterr().err
    assert dq("mute", "ODERS", *given[2:], "--report", str(known)) == cli.USAGE
    assert dq(*given) == cli.USAGE
    assert "--report" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# kept\nmutes: []\n", id="empty"),
        pytest.param("# kept\nmutes: []  # none yet", id="empty, with a comment"),
        pytest.param(
            "# kept\nmutes:\n- table: A.B.C\n  rule: r\n  reason: a good reason\n  until: 2026-12-01\n  # the end",
            id="a list without indent",
        ),
        pytest.param(
            "# kept\nmutes:\n    - {table: A.B.C, rule: r, reason: a good reason, until: 2026-12-01}\n",
            id="a line a mute",
        ),
    ],
)
def test_comments_and_form_of_the_file_stay(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dq_mutes.yaml"
    file.write_text(text)
    before = len(yaml.safe_load(text)["mutes"] or [])
    muting.add(file, NAME, a_mute(), TODAY)
    after = file.read_text()
    assert after.startswith("# kept\n")
    assert after.count("#") == text.count("#")
    assert len(yaml.safe_load(after)["mutes"]) == before + 1


def test_a_file_whose_form_takes_no_line_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "dq_mutes.yaml"
    text = "mutes: [{table: A.B.C, rule: r, reason: a good reason, until: 2026-12-01}]\n"
    file.write_text(text)
    with pytest.raises(ConfigError):
        muting.add(file, NAME, a_mute(), TODAY)
    assert file.read_text() == text


def test_everything_that_is_wrong_with_a_mute_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "dq_mutes.yaml"
    with pytest.raises(UsageError) as refused:
        muting.add(file, NAME, a_mute(until=date(2026, 11, 28), reason="known", by=" "), TODAY)
    assert [one.where for one in refused.value.violations] == ["--until", "--reason", "--by"]
    with pytest.raises(UsageError, match="90 days"):
        muting.add(file, NAME, a_mute(until=TODAY + timedelta(days=91)), TODAY)
    assert not file.exists()
    muting.add(file, NAME, a_mute(until=TODAY), TODAY)


_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30)


@settings(max_examples=20)
@given(name=st.tuples(_TEXT, _TEXT, _TEXT), rule=_TEXT, reason=_TEXT)
def test_whatever_names_and_reasons_have_in_them_is_read_back(
    name: tuple[str, str, str], rule: str, reason: str
) -> None:
    table = TableName(*name)
    mute = a_mute(rule=rule, reason=f"because {reason}!", table=written(table))
    text = muting.added("dq_mutes.yaml", "mutes: []\n", table, mute)
    assert muting.mutes_in("dq_mutes.yaml", text) == [mute]
    assert matches_table(written(table), table)


def test_a_connection_that_breaks_shows_no_stack_trace(
    dq: Commands,
    snow: Snow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The connector logs one for each try."""
    monkeypatch.setattr(session, "GRACE_SECONDS", 0)
    configured(tmp_path, PLATFORM + "limits: {statement_seconds: 1}\n", RULES)
    snow.admin.fault(match="SHOW DATABASES", kind="drop", times=0)
    assert dq("discover") == cli.NOT_CHECKED
    assert "Traceback" not in caplog.text + capsys.readouterr().err


def test_on_a_laptop_the_running_stack_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    exports = {
        "LOCAL_SNOWFLAKE_HOST": "127.0.0.1",
        "LOCAL_SNOWFLAKE_PORT": "4574",
        "AWS_ENDPOINT_URL": "http://x",
    }
    for name in ("SNOWFLAKE_HOST", "SNOWFLAKE_PORT", "SNOWFLAKE_PROTOCOL", "S3_DQ_REPORTS_BUCKET", *exports):
        monkeypatch.setenv(name, "of the test's")
    monkeypatch.delenv("S3_DQ_REPORTS_BUCKET")
    monkeypatch.setattr("local.stack.running", lambda: SimpleNamespace(exports=exports))
    script = load_script("dq")

    monkeypatch.setenv("SNOWFLAKE_SECRET_NAME", "of/production")
    script.use_stack()
    assert os.environ["SNOWFLAKE_HOST"] == "of the test's"

    monkeypatch.setenv("SNOWFLAKE_SECRET_NAME", "")
    script.use_stack()
    assert read_place(os.environ) == Place(DQ_SECRET, "127.0.0.1", 4574, "http")
    assert os.environ["S3_DQ_REPORTS_BUCKET"] == DQ_REPORTS_BUCKET
