"""Delta tables in Glue: registered once, then left alone until something changes; Glue's limits are kept."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from deltalake import DeltaTable, Schema
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.catalog import LAYERS, OWNER, CatalogConflict, CatalogRefused, covers, register
from lakehouse.contracts import glue
from lakehouse.settings import GlueSettings, Settings
from local.aws.glue import _faults, _model
from tests.quality.support import make_settings

STORAGE = {"allow_http": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}


@pytest.fixture
def settings(lake: str) -> Settings:
    name = lake.removeprefix("s3://").replace("-", "_")
    return make_settings(lake, glue=GlueSettings(**{layer: f"{name}_{layer}" for layer in LAYERS}))


def create(settings: Settings, table: str, *columns: tuple[str, str], description: str | None = None) -> None:
    """A Delta table with string columns of these names and comments."""
    fields = [
        {"name": name, "type": "string", "nullable": True, "metadata": {"comment": comment}}
        for name, comment in columns
    ]
    DeltaTable.create(
        settings.table_uri(table),
        Schema.from_json(json.dumps({"type": "struct", "fields": fields})),
        storage_options=STORAGE,
        description=description,
        mode="overwrite",
    )


def actions(settings: Settings) -> dict[str, str]:
    return {each.table: each.action for each in register(settings, ("gold",))}


def test_a_table_is_written_where_it_changed_only(settings: Settings) -> None:
    create(settings, "gold.a", ("id", "two\nlines"), ("x", ""), description="An a.\nIt has\x00 lines.")
    assert actions(settings) == {"gold.a": "created"}
    assert actions(settings) == {"gold.a": "unchanged"}
    client = boto3.client("glue", region_name=settings.region)
    live: dict[str, Any] = dict(client.get_table(DatabaseName=settings.glue.gold, Name="a")["Table"])
    assert live["StorageDescriptor"]["Columns"][0]["Comment"] == "two lines"
    assert live["Description"] == "An a.\nIt has  lines."
    # An engine notes something of its own: not ours to take away.
    client.update_table(
        DatabaseName=settings.glue.gold,
        TableInput={
            key: live[key]
            for key in ("Name", "Description", "TableType", "PartitionKeys", "StorageDescriptor")
        }
        | {"Parameters": live["Parameters"] | {"numRows": "7"}, "Retention": 3},
    )
    assert actions(settings) == {"gold.a": "unchanged"}
    create(settings, "gold.a", ("id", ""), ("x", ""))
    assert actions(settings) == {"gold.a": "updated"}
    assert actions(settings) == {"gold.a": "unchanged"}


def test_what_cannot_be_registered_does_not_keep_the_others_out(settings: Settings) -> None:
    create(settings, "gold.a", ("n" * 300, ""))
    create(settings, "gold.b", ("line\nbreak", ""))
    create(settings, "gold.c", ("id", ""))
    create(settings, "gold.foreign", ("id", ""))
    client = boto3.client("glue", region_name=settings.region)
    with pytest.raises(CatalogRefused) as refused:
        register(settings, ("gold",))
    assert [each.where for each in refused.value.violations] == ["gold.a: definition", "gold.b: definition"]
    foreign = client.get_table(DatabaseName=settings.glue.gold, Name="foreign")["Table"]
    assert foreign["Parameters"][OWNER] == "true"
    client.update_table(DatabaseName=settings.glue.gold, TableInput={"Name": "foreign"})
    with pytest.raises(CatalogConflict, match="foreign") as conflict:
        register(settings, ("gold",))
    assert len(conflict.value.violations) == 2
    assert client.get_table(DatabaseName=settings.glue.gold, Name="c")["Table"]["Name"] == "c"


@given(st.text(st.characters(exclude_categories=[]), max_size=400))
def test_glue_takes_every_comment_and_description(text: str) -> None:
    shapes = _model().shape_for("Column"), _model().shape_for("TableInput")
    assert not list(_faults(shapes[0], {"Name": "n", "Comment": glue.comment(text)}, ""))
    assert not list(_faults(shapes[1], {"Name": "n", "Description": glue.description(text * 8)}, ""))
    assert glue.comment(glue.comment(text)) == glue.comment(text)


def test_a_comment_is_cut_between_characters() -> None:
    assert glue.comment("ü" * 200) == "ü" * 127
    assert glue.comment(" a \r\n\t b\x85c ") == "a b c"
    assert glue.comment("x" * 255) == "x" * 255


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": "", "b": [], "c": {}}, True),
        ({"a": "old"}, {"a": ""}, False),
        ([{"Name": "a", "Parameters": {}}], [{"Name": "a", "Comment": ""}], True),
        ([{"Name": "a"}, {"Name": "b"}], [{"Name": "a"}], False),
        ([{"Name": "b"}, {"Name": "a"}], [{"Name": "a"}, {"Name": "b"}], False),
        (None, {"a": "x"}, False),
    ],
)
def test_only_what_we_write_is_compared(live: Any, wanted: Any, same: bool) -> None:
    assert covers(live, wanted) is same
