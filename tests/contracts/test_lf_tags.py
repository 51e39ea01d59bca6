"""Lake Formation knows each column's class as its contract has it."""

from __future__ import annotations

import dataclasses
from typing import Any

import boto3
import pytest

from lakehouse import contracts
from lakehouse.catalog import register
from lakehouse.contracts import Contract
from lakehouse.flows.lf_tags import TagsRefused, tag_columns
from lakehouse.settings import GlueSettings, LakeFormationSettings, Settings
from tests.contracts.test_drift import as_personal, create
from tests.quality.support import make_settings

CUSTOMERS = contracts.load("gold.dim_customers")


@pytest.fixture
def settings(lake: str) -> Settings:
    """A registered table, and settings that ask for a tag of this test's own."""
    name = lake.removeprefix("s3://").replace("-", "_")
    made = make_settings(
        lake,
        glue=GlueSettings(gold=f"{name}_gold"),
        lake_formation=LakeFormationSettings(classification_tag=f"classification_{name}"),
    )
    create(made, CUSTOMERS)
    register(made, ("gold",))
    return made


@pytest.fixture
def client(settings: Settings) -> Any:
    """Lake Formation, which knows the tag."""
    client: Any = boto3.client("lakeformation", region_name=settings.region)
    key = settings.lake_formation.classification_tag
    client.create_lf_tag(TagKey=key, TagValues=["public", "internal", "personal"])
    return client


def tags(client: Any, settings: Settings, contract: Contract) -> dict[str, list[str]]:
    table = {
        "DatabaseName": settings.glue.gold,
        "Name": contract.table,
        "ColumnNames": list(contract.column_names),
    }
    answer = client.get_resource_lf_tags(Resource={"TableWithColumns": table})
    return {each["Name"]: each["LFTags"][0]["TagValues"] for each in answer.get("LFTagsOnColumns", [])}


def test_a_column_is_tagged_with_its_class_once(client: Any, settings: Settings) -> None:
    (first,) = tag_columns(settings, [CUSTOMERS])
    assert first.columns == len(CUSTOMERS.columns)
    assert tags(client, settings, CUSTOMERS) == {
        each.name: [each.classification] for each in CUSTOMERS.columns
    }
    assert [each.columns for each in tag_columns(settings, [CUSTOMERS])] == [0]


def test_a_tag_follows_its_contract(client: Any, settings: Settings) -> None:
    tag_columns(settings, [as_personal(CUSTOMERS)])
    (change,) = tag_columns(settings, [as_personal(CUSTOMERS, "country")])
    assert change.columns == 1
    assert tags(client, settings, CUSTOMERS)["country"] == ["personal"]


def test_columns_that_glue_lacks_are_left_out(client: Any, settings: Settings) -> None:
    more = dataclasses.replace(CUSTOMERS.columns[0], name="not_there_yet")
    (change,) = tag_columns(settings, [dataclasses.replace(CUSTOMERS, columns=(*CUSTOMERS.columns, more))])
    assert change.columns == len(CUSTOMERS.columns)


def test_all_failures_are_listed(settings: Settings) -> None:
    unregistered = dataclasses.replace(CUSTOMERS, name="gold.nothing", table="nothing")
    with pytest.raises(TagsRefused) as refused:
        tag_columns(settings, [CUSTOMERS, unregistered])
    places = [violation.where.split(":")[0] for violation in refused.value.violations]
    classes = {each.classification for each in CUSTOMERS.columns}
    assert places == ["gold.dim_customers"] * len(classes) + ["gold.nothing"]
    assert all("EntityNotFoundException" in violation.received for violation in refused.value.violations)
    assert "lake_formation_tags" in refused.value.hint


def test_without_the_setting_nothing_is_asked(settings: Settings) -> None:
    off = settings.model_copy(update={"lake_formation": LakeFormationSettings()})
    assert tag_columns(off, [CUSTOMERS]) == []
