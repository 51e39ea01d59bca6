"""How long a bucket keeps what was overwritten or deleted, as its lifecycle says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse import store
from lakehouse.flows.recovery.erasures import Erasure
from tests.support import Aws

AFTER = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}, "Status": "Enabled"}
ALL: dict[str, Any] = {"Filter": {"Prefix": ""}}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([AFTER | ALL], 30),
        ([AFTER | ALL, AFTER | ALL | {"NoncurrentVersionExpiration": {"NoncurrentDays": 7}}], 7),
        # Neither of them removes every old version.
        ([AFTER | ALL | {"Status": "Disabled"}], None),
        ([AFTER | {"Filter": {"Prefix": "bronze/"}}], None),
        ([AFTER | {"Filter": {"Tag": {"Key": "k", "Value": "v"}}}], None),
        ([{"Status": "Enabled", "Expiration": {"Days": 9}} | ALL], None),
        (
            [
                AFTER
                | ALL
                | {"NoncurrentVersionExpiration": {"NoncurrentDays": 9, "NewerNoncurrentVersions": 2}}
            ],
            None,
        ),
    ],
)
def test_the_lifecycle_says_how_long(rules: list[dict[str, Any]], days: int | None) -> None:
    assert store.removed_after(rules) == days


def test_a_bucket_without_versions_keeps_nothing_and_one_without_rules_all(aws: Aws, lake: str) -> None:
    s3, bucket = aws.client("s3"), lake.removeprefix("s3://")
    assert store.kept_days(lake) == 0
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert store.kept_days(lake) is None
    rules: Any = {"Rules": [{"ID": "old", **AFTER, **ALL}]}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    assert store.kept_days(lake) == 30


def test_old_versions_are_found_with_the_time_from_which_they_count(aws: Aws, lake: str) -> None:
    s3, bucket = aws.client("s3"), lake.removeprefix("s3://")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("silver/x/overwritten", "silver/x/deleted", "silver/x/current", "silver/y/elsewhere"):
        store.put(f"{lake}/{key}", b"1")
    store.put(f"{lake}/silver/x/overwritten", b"2")
    store.delete(f"{lake}/silver/x/deleted")
    store.delete(f"{lake}/silver/y/elsewhere")
    now = datetime.now(UTC)
    found = list(store.superseded_since(f"{lake}/silver/x/", now + timedelta(seconds=2)))
    assert len(found) == 2
    assert all(abs(now - at) < timedelta(minutes=1) for at in found)
    # What was written after is nobody's of before.
    assert list(store.superseded_since(f"{lake}/silver/x/", now - timedelta(hours=1))) == []


def test_the_last_version_is_gone_after_retention_housekeeping_and_lifecycle() -> None:
    done = datetime(2026, 11, 28, tzinfo=UTC)
    erasure = Erasure(
        run_id="r",
        subject_hash="h",
        begun_at=done,
        runs={},
        tables=("silver.orders",),
        ids=(),
        columns={},
        done_at=done,
    )
    assert erasure.gone_at(30) == done + timedelta(days=30 + 7 + 30 + 2)
    assert erasure.model_copy(update={"done_at": None}).gone_at(30) is None
