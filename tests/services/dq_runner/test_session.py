"""How Snowflake is asked: where it is, what a statement carries, and what its refusals mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snowflake.connector import errors as sf
from snowflake.connector.vendored.requests.exceptions import ConnectionError as NoConnection

from dq_runner.session import NoWarehouse, Place, StatementFailed, read_place, tagged, told
from lakehouse.errors import ConfigError, CredentialsError, SourceUnavailable


def test_the_place_is_in_the_environment() -> None:
    assert read_place({"SNOWFLAKE_SECRET_NAME": "a/secret"}) == Place("a/secret")
    double = {"SNOWFLAKE_HOST": "127.0.0.1", "SNOWFLAKE_PORT": "4574", "SNOWFLAKE_PROTOCOL": "http"}
    assert read_place({"SNOWFLAKE_SECRET_NAME": "s", **double}) == Place("s", "127.0.0.1", 4574, "http")


def test_everything_that_is_wrong_with_it_is_said_at_once() -> None:
    wrong = {
        "SNOWFLAKE_PORT": "many",
        "SNOWFLAKE_PROTOCOL": "ftp",
        "SNOWFLAKE_NETWORK_TIMEOUT_SECONDS": "0",
    }
    with pytest.raises(ConfigError) as refused:
        read_place(wrong)
    for name in ("SNOWFLAKE_SECRET_NAME", *wrong):
        assert name in refused.value.message


@given(st.text(max_size=1_000))
def test_a_query_tag_is_json_that_snowflake_takes(name: str) -> None:
    tag = tagged({"application": "dq-platform", "run_id": "20261129T060000Z-" + 36 * "x"}, name)
    assert len(tag) <= 2_000
    assert name.startswith(json.loads(tag)["table"])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sf.ProgrammingError("dropped", errno=2003), StatementFailed),
        (sf.ProgrammingError("forbidden", errno=3001), StatementFailed),
        (sf.ProgrammingError("timeout", errno=630), StatementFailed),
        (sf.ProgrammingError("cancelled", errno=604), StatementFailed),
        (sf.ProgrammingError("no column", errno=904), StatementFailed),
        (sf.ProgrammingError("division by zero", errno=100051), StatementFailed),
        (sf.ProgrammingError("no warehouse", errno=606), NoWarehouse),
        (sf.ProgrammingError("quota", errno=90073), NoWarehouse),
        (sf.ProgrammingError("session expired", errno=390112), SourceUnavailable),
        (sf.OperationalError("gone", errno=250003), SourceUnavailable),
        (sf.DatabaseError("locked", errno=390102), CredentialsError),
        (NoConnection("gone"), SourceUnavailable),
        (ConnectionResetError("gone"), SourceUnavailable),
    ],
)
def test_what_an_error_means(error: Exception, kind: type) -> None:
    meant = told(error, "A.B.C", "a/secret")
    assert type(meant) is kind
    assert meant.hint
    assert "A.B.C" in meant.message


def test_no_value_of_a_row_is_in_a_message() -> None:
    error = sf.ProgrammingError("Numeric value 'jane@example.com' is not recognized", errno=100038)
    assert "jane" not in told(error, "A.B.C", "a/secret").message
    other = sf.ProgrammingError('Failed to cast variant value "Jane\'s" to DATE', errno=100071)
    assert "Jane" not in told(other, "A.B.C", "a/secret").message
