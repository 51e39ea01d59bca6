"""The local Glue refuses, folds and completes as the service does."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support import Aws

_numbers = itertools.count(1)


@pytest.fixture
def glue(aws: Aws) -> Any:
    return aws.client("glue")


@pytest.fixture
def database(glue: Any) -> str:
    name = f"glue_{next(_numbers)}"
    glue.create_database(DatabaseInput={"Name": name})
    return name


def table(**column: Any) -> dict[str, Any]:
    return {
        "Name": "t",
        "StorageDescriptor": {
            "Columns": [{"Name": "a", "Type": "int"}, {"Name": "b", "Type": "int"} | column]
        },
    }


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"Comment": "two\nlines"}, "regular expression pattern"),
        ({"Comment": "a bell \x07"}, "regular expression pattern"),
        ({"Comment": "not a character \uffff"}, "regular expression pattern"),
        ({"Comment": "ü" * 128}, "length less than or equal to 255"),
        ({"Name": "n" * 256}, "length less than or equal to 255"),
        ({"Type": "struct<a:int,\nb:int>"}, "regular expression pattern"),
    ],
)
def test_what_the_service_refuses_is_refused(glue: Any, database: str, column: Any, said: str) -> None:
    for call in (glue.create_table, glue.update_table):
        with pytest.raises(ClientError, match=said) as caught:
            call(DatabaseName=database, TableInput=table(**column))
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        member = next(iter(column)).lower()
        assert f"at 'table.storageDescriptor.columns.2.member.{member}'" in str(caught.value)


def test_all_faults_are_named_at_once(glue: Any, database: str) -> None:
    given = table(Comment="a\nb", Type="\n") | {"Description": "d" * 2049}
    with pytest.raises(ClientError, match="3 validation errors detected"):
        glue.create_table(DatabaseName=database, TableInput=given)


def test_what_the_service_takes_is_taken(glue: Any, database: str) -> None:
    glue.create_table(
        DatabaseName=database,
        TableInput=table(Comment="tab\t, DEL \x7f, ü, 漢, 😀") | {"Description": "two\r\nlines"},
    )


def test_the_answer_holds_more_than_was_given(glue: Any, database: str) -> None:
    glue.create_table(DatabaseName=database, TableInput=table() | {"Name": "Folded"})
    found = glue.get_table(DatabaseName=database.upper(), Name="FOLDED")["Table"]
    assert found["Name"] == "folded"
    assert (found["Retention"], found["IsRegisteredWithLakeFormation"]) == (0, False)
    storage = found["StorageDescriptor"]
    assert (storage["Compressed"], storage["NumberOfBuckets"], storage["StoredAsSubDirectories"]) == (
        False,
        0,
        False,
    )
    assert (storage["BucketColumns"], storage["SortColumns"], storage["Parameters"]) == ([], [], {})
    assert set(storage["SkewedInfo"]) == {
        "SkewedColumnNames",
        "SkewedColumnValues",
        "SkewedColumnValueLocationMaps",
    }
    with pytest.raises(ClientError, match="already exists"):
        glue.create_table(DatabaseName=database, TableInput=table() | {"Name": "FOLDED"})
