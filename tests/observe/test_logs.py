"""Log lines are JSON with the run's id, and carry no value of a row."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import cli, store
from lakehouse.bounded import described
from lakehouse.errors import SourceError, UsageError
from lakehouse.masks import VALUES, masked
from lakehouse.observe import outcome
from lakehouse.observe.logs import LEVELS, JsonFormatter, configure, levels
from lakehouse.sources.retry import http_failure
from tests.observe.support import RUN, a_server, config_file
from tests.quality.support import make_settings
from tests.support import REPO, Aws

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CANARY = "canary.person@example.com"
SPARK = f'[CAST_INVALID_INPUT] The value \'{CANARY}\' of the type "STRING" cannot be cast to "INT"'


def record(message: str, *arguments: Any) -> logging.LogRecord:
    return logging.LogRecord("lakehouse.x", logging.INFO, "f", 1, message, arguments, None)


def test_a_line_is_json_with_its_run() -> None:
    line = json.loads(JsonFormatter(run_id="r", job="j").format(record("%d rows\nand a line", 3)))
    assert (line["run_id"], line["job"], line["level"], line["message"]) == (
        "r",
        "j",
        "INFO",
        "3 rows\nand a line",
    )


def test_an_exception_is_in_the_line_without_its_values() -> None:
    try:
        raise ValueError(SPARK)
    except ValueError:
        told = record("unexpected failure")
        told.exc_info = sys.exc_info()
    text = JsonFormatter().format(told)
    assert "Traceback" in json.loads(text)["exception"]
    assert "The value '…' of the type" in json.loads(text)["exception"]
    assert CANARY not in text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The value 'Müller' of the type", "The value '…' of the type"),
        ("violated by row with values:\n - name : Jane Roe", "violated by row with values:\n - name : …"),
        ("to jane.roe+x@mail.example.org.", "to …@…."),
        ("s3://lake/silver/orders version 4: 3 rows", "s3://lake/silver/orders version 4: 3 rows"),
        ("run 'x' of `silver.orders`", "run 'x' of `silver.orders`"),
    ],
    ids=["spark", "delta", "mail", "a path", "a name"],
)  # fmt: skip
def test_values_that_errors_quote_are_taken_out(text: str, left: str) -> None:
    assert masked(text) == left


NAMES = ("Jane Roe", "O'Brien", "Zoë d'Été", "Ng", "van Oberg", "Roe\nJane", 'Jane "JR" Roe', "李小龙")
PHONES = ("+49 30 1234567", "+49 (0)30 1234567", "+1-555-010-9999", "0049/30/1234567", "+491705550199")
MAILS = ("jane.roe+x@mail.example.org", "jane@localhost", "zoë@bücher.example", "j_r@a-b.co.uk")
# How errors quote a value: of Spark, Java and Arrow as it is, of Python and pydantic as repr does it.
RAW = (
    '[CAST_INVALID_INPUT] The value \'{}\' of the type "STRING" cannot be cast to "INT"',
    "Text '{}' could not be parsed at index 0",
    "Could not convert '{}' with type str: tried to convert to int64",
    'For input string: "{}"\n\tat java.lang.Long.parseLong(Long.java:1)',
    'java.lang.NumberFormatException: For input string: "{}" under radix 16',
    "CHECK constraint violated by row with values:\n - name : {}\n - n : 3\n\tat org.apache.spark",
    "Numeric value '{}' is not recognized",
    "Numeric value '{}",
)
SHOWN = (
    "invalid literal for int() with base 10: {!r}",
    "could not convert string to float: {!r}",
    "Invalid isoformat string: {!r}",
    "time data {!r} does not match format '%Y'",
    "1 validation error [type=int_parsing, input_value={!r}, input_type=str]\n    For further",
)
# Values that stand in a sentence without quotes.
BARE = (
    "told {} of it",
    "{}",
    "phone:{}",
    "account {}, expected another.",
    '{{"to":"{}"}}',
    "a line\n{}\nand more",
)
CASES = [(shape, value) for shape in RAW + SHOWN for value in NAMES + PHONES + MAILS] + [
    (shape, value) for shape in BARE for value in PHONES + MAILS
]
# What we say ourselves, and nobody may lose.
OURS = (
    "silver.orders: received version 12, expected 'silver.orders' at version 11",
    "run 20261121T101010Z-1b2c3d4e-0000-4000-8000-000000000001 was refused at 2026-11-21 10:10:10 UTC",
    "2026-11-21T10:10:10.123+00:00 and 2026-11-21 10:10:10 +0100, 1.0.0+20261121, position 000012:0000000000001234567",
    "bronze.kafka_orders: no value in 12 rows, the value is null; column 'amount' and rule 'status_known'",
    "  - day.csv.carrier: received no such column, expected a column",
    "received the location 'x', expected s3://bucket/key; 1 234 567 rows, 99.5 s, -0049, part-00012-ab12cd34.jsonl.gz",
    "see `scripts/run_ge_checks.py --layer silver --table orders`, then start anew",
)


def left_of(value: str, text: str) -> list[str]:
    """Words of a value that a text still has."""
    return [word for word in (value, *value.replace('"', " ").split()) if len(word) > 1 and word in text]


@pytest.mark.parametrize(("shape", "value"), CASES)
def test_no_shape_of_an_error_lets_a_value_through(shape: str, value: str) -> None:
    assert left_of(value, masked(shape.format(value))) == []
    # Cut, as a source's answer is, and with more before and behind.
    assert left_of(value, masked(f"it failed: {shape.format(value)}; see the log")) == []


_LETTERS = st.characters(whitelist_categories=("Lu", "Ll", "Lo"))


@given(
    st.sampled_from(SHOWN + RAW[:5]),
    st.lists(st.text(_LETTERS, min_size=3, max_size=9), min_size=1, max_size=3),
    st.sampled_from([" ", "'", "-", "\n", ", "]),
)
def test_no_name_comes_through(shape: str, words: list[str], between: str) -> None:
    name = between.join(f"Q{word}" for word in words)
    assert not any(f"Q{word}" in masked(shape.format(name)) for word in words)


@given(st.from_regex(r"\A[+][1-9]([ ()/.-]?[0-9]){7,13}\Z"), st.sampled_from(BARE))
def test_no_number_comes_through(number: str, shape: str) -> None:
    assert number not in masked(shape.format(number))


@pytest.mark.parametrize("text", OURS)
def test_what_we_say_ourselves_stays(text: str) -> None:
    assert masked(text) == text


def test_a_text_is_masked_once_and_fast() -> None:
    for shape, value in CASES:
        once = masked(shape.format(value))
        assert masked(once) == once
    for part in ("A", "é", "value '", "+49 30 ", " - a : b\n", "00 "):
        masked(part * (20_000 // len(part)))


def test_the_jvm_masks_by_the_same_expressions(spark: SparkSession) -> None:
    declared = yaml.safe_load((REPO / "emr_configs" / "logging.yaml").read_text())["jvm"]
    pattern = declared["appender.json.layout.pattern"]
    wanted = "%m%notEmpty{ %ex}"
    for expression, instead in VALUES:
        assert "\\" not in expression
        shown = instead.replace("…", "...").replace("\\1", "$1")
        wanted = f"%replace{{{wanted}}}{{{expression}}}{{{shown}}}"
    assert f"%enc{{{wanted}}}{{JSON}}" in pattern

    log4j = spark._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    layout = log4j.core.layout.PatternLayout.newBuilder().withPattern(pattern).build()

    def told(text: str) -> str:
        message = log4j.message.SimpleMessage(text)
        event = (
            log4j.core.impl.Log4jLogEvent.newBuilder()
            .setMessage(message).setLevel(log4j.Level.WARN).setLoggerName("x").build()
        )  # fmt: skip
        return str(json.loads(layout.toSerializable(event))["message"])

    assert [case for case in CASES if left_of(case[1], told(case[0].format(case[1])))] == []
    assert [told(text) for text in OURS] == list(OURS)


def test_what_nobody_waits_for_is_told_without_values() -> None:
    problem = described(ValueError(f"could not convert string to float: 'Jane Roe'; {'x ' * 300}"))
    assert problem.startswith("ValueError: could not convert string to float: '…'; x")
    # Cut between words: half an address is not known for one.
    failure = http_failure("HubSpot", 400, f"{'x ' * 95}{CANARY}", None)
    assert "canary" not in failure.message


def test_levels_are_the_declared_ones_unless_a_submission_says_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declared = yaml.safe_load((REPO / "emr_configs" / "logging.yaml").read_text())["python"]
    assert levels(LEVELS) == declared
    assert levels("root=LOUD, a=DEBUG,=INFO,nonsense") == {"a": "DEBUG"}
    for said, level in (("root=ERROR,lakehouse=DEBUG", logging.DEBUG), ("", logging.INFO)):
        monkeypatch.setenv("LAKEHOUSE_LOG_LEVELS", said)
        configure(run_id=RUN)
        assert logging.getLogger("lakehouse").level == level
    assert logging.getLogger().level == logging.WARNING


def everything(lake: str) -> bytes:
    return b"\n".join(store.get_many(list(store.keys(f"{lake}/"))))


ANSWERED = http_failure("HubSpot", 400, f'{{"message":"Email {CANARY} is invalid"}}', None)
HINTED = SourceError("Salesforce Lead: received HTTP 400", hint=f"value '{CANARY}' is not known")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError(SPARK), 1, "CAST_INVALID_INPUT"),
        (ANSWERED, 10, "HubSpot: received HTTP 400"),
        (HINTED, 10, "What to do: value '…' is not known"),
    ],
    ids=["Spark", "a source", "a hint"],
)
def test_nothing_that_a_failing_job_leaves_has_a_secret_or_a_value(
    aws: Aws,
    lake: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    raised: Exception,
    code: int,
    said: str,
) -> None:
    """The job fails in words about a row, and its lineage is refused by an endpoint that wanted a key."""
    name, key = lake.removeprefix("s3://"), "CANARY-KEY-0123456789"
    aws.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps({"api_key": key}))

    def story(job: cli.Job) -> None:
        raise raised

    with a_server("breaks") as url:
        here = make_settings(lake, openlineage={"transport": "http", "url": url, "secret": name})
        given = ["--config", config_file(tmp_path, here), "--run-id", RUN]
        assert cli.run("a_job", story, cli.parser("a_job", "").parse_args(given)) == code
    left = outcome.read(here, RUN, "a_job")
    assert left is not None
    assert left.error is not None
    assert said in f"{left.error.message}\nWhat to do: {left.error.hint}"
    told = capfd.readouterr()
    for where in (everything(lake).decode(), told.out, told.err):
        assert CANARY not in where
        assert key not in where
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert {line["run_id"] for line in lines} == {RUN}
    assert any(said in line["message"] + line.get("exception", "") for line in lines)


def test_a_job_that_cannot_start_says_so_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = ["--config", str(tmp_path / "none.yaml"), "--run-id", RUN]
    assert cli.run("a_job", lambda job: None, cli.parser("a_job", "").parse_args(given)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["run_id"] == RUN
    assert "CONFIG (terminal)" in json.loads(line)["message"]


def test_a_person_at_a_terminal_reads_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cli._tell("a_job", UsageError(f"received {CANARY}", hint="say another"))
    assert capsys.readouterr().err == ("a_job: USAGE (terminal): received …@…\nWhat to do: say another\n")
