"""Classification to Lake Formation: each column of a registered table carries its class as an LF tag.

Who may read which class is granted on the tag, once for all tables; a column that becomes personal in its contract is
out of reach of those without that grant from the next registration on. Columns that no contract has get no tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import ClientError

from lakehouse.contracts import Contract
from lakehouse.errors import TerminalError, Violation
from lakehouse.settings import Settings


class TagsRefused(TerminalError):
    """Lake Formation did not take the tags of some columns."""

    code = "LF_TAGS_REFUSED"


@dataclass(frozen=True)
class Tagged:
    """How many columns of one table were given their tag; the others had it."""

    table: str
    columns: int


def tag_columns(settings: Settings, contracts: Sequence[Contract]) -> list[Tagged]:
    """Give every column of these tables its class. Idempotent. Raises TagsRefused, all failures at once."""
    key = settings.lake_formation.classification_tag
    if key is None:
        return []
    done: list[Tagged] = []
    failures: list[Violation] = []
    for contract in contracts:
        try:
            changed, refused = _tag(settings, contract, key)
        except ClientError as error:
            said = error.response["Error"]
            failures.append(_failure(contract.name, said.get("Code", ""), said.get("Message", ""), key))
            continue
        done.append(Tagged(contract.name, changed))
        failures += refused
    if failures:
        raise TagsRefused(
            "Lake Formation did not tag all columns; the tables are registered",
            hint=f"the LF tag {key} has to exist with the values public, internal and personal, and this role needs "
            "ASSOCIATE on it (terraform: lake_formation_tags); then register again",
            violations=tuple(failures),
        )
    return done


def _tag(settings: Settings, contract: Contract, key: str) -> tuple[int, list[Violation]]:
    """Tag one table's columns; returns how many had another tag or none, and what was refused."""
    client: Any = boto3.client("lakeformation", region_name=settings.region)
    table = {"DatabaseName": getattr(settings.glue, contract.layer), "Name": contract.table}
    glue = boto3.client("glue", region_name=settings.region)
    live = glue.get_table(**table)["Table"]["StorageDescriptor"]["Columns"]
    registered = {column["Name"] for column in live}
    columns = [column for column in contract.columns if column.name in registered]
    names = [column.name for column in columns]
    answer = client.get_resource_lf_tags(
        Resource={"TableWithColumns": {**table, "ColumnNames": names}}, ShowAssignedLFTags=True
    )
    have = {
        each["Name"]: tag["TagValues"]
        for each in answer.get("LFTagsOnColumns", [])
        for tag in each["LFTags"]
        if tag["TagKey"] == key
    }
    wanted: dict[str, list[str]] = {}
    for column in columns:
        if have.get(column.name) != [column.classification]:
            wanted.setdefault(column.classification, []).append(column.name)
    changed, failures = 0, []
    for value, lacking in sorted(wanted.items()):
        answer = client.add_lf_tags_to_resource(
            Resource={"TableWithColumns": {**table, "ColumnNames": lacking}},
            LFTags=[{"TagKey": key, "TagValues": [value]}],
        )
        for failure in answer.get("Failures", []):
            error = failure.get("Error", {})
            where = f"{contract.name}: {', '.join(lacking)}"
            failures.append(
                _failure(where, error.get("ErrorCode", ""), error.get("ErrorMessage", ""), f"{key}={value}")
            )
        changed += 0 if answer.get("Failures") else len(lacking)
    return changed, failures


def _failure(where: str, code: str, message: str, tag: str) -> Violation:
    return Violation(where, f"{code} ({message})", f"the LF tag {tag}")
