"""scripts/undelete.sh: deleted objects are back, those below the prefix and no others, or it says why not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.bootstrap import keep_versions
from tests.support import REPO, Aws

#: More than two calls take.
MANY = 700


def undelete(aws: Aws, bucket: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(REPO / "scripts" / "undelete.sh"), *arguments],
        env=os.environ | aws.env | {"LAKE_BUCKET": bucket, "PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def bucket(aws: Aws, lake: str) -> str:
    """A bucket in which everything but two objects was deleted, one of the deleted twice."""
    s3, name = aws.client("s3"), lake.removeprefix("s3://")
    keep_versions(s3, name)
    dropped = [f"silver/orders/{n}.parquet" for n in range(MANY)]
    for key in [*dropped, "silver/orders/kept", "silver/orders_other/dropped", "silver/orders_other/kept"]:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    gone = [*dropped, "silver/orders_other/dropped"]
    for begin in range(0, len(gone), 1000):
        objects = [{"Key": key} for key in gone[begin : begin + 1000]]
        s3.delete_objects(Bucket=name, Delete={"Objects": objects})
    s3.delete_object(Bucket=name, Key=dropped[0])
    return name


def test_what_was_deleted_is_back_and_a_second_time_changes_nothing(aws: Aws, bucket: str) -> None:
    def there() -> set[str]:
        pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"] for page in pages for item in page["Contents"]}

    kept = there()
    assert len(kept) == 2

    done = undelete(aws, bucket, "silver/orders/")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"No object below s3://{bucket}/silver/orders/ is deleted"
    first = "silver/orders/0.parquet"
    assert aws.client("s3").get_object(Bucket=bucket, Key=first)["Body"].read() == first.encode()
    back = there()
    assert back == kept | {f"silver/orders/{n}.parquet" for n in range(MANY)}

    again = undelete(aws, bucket, "silver/orders/")

    assert (again.returncode, len(again.stdout.splitlines())) == (0, 1)
    assert there() == back


@pytest.mark.parametrize("arguments", [(), ("",), ("silver/orders",), ("silver/", "gold/")])
def test_a_whole_lake_does_not_come_back_by_mistake(aws: Aws, arguments: tuple[str, ...]) -> None:
    refused = undelete(aws, "lake", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "usage: " in refused.stderr


def test_a_bucket_that_cannot_be_read_is_no_bucket_without_deleted_objects(aws: Aws) -> None:
    done = undelete(aws, "no-such-lake", "silver/orders/")
    assert done.returncode != 0
    assert "NoSuchBucket" in done.stderr
    assert done.stdout == ""


def test_where_nothing_can_come_back_it_says_so(aws: Aws, lake: str) -> None:
    s3, name = aws.client("s3"), lake.removeprefix("s3://")
    plain = undelete(aws, name, "silver/orders/")
    assert (plain.returncode, plain.stdout) == (1, "")
    assert "keeps no versions" in plain.stderr

    keep_versions(s3, name)
    s3.put_object(Bucket=name, Key="silver/orders/1", Body=b"1")
    mistyped = undelete(aws, name, "silver/ordres/")
    assert (mistyped.returncode, mistyped.stdout) == (1, "")
    assert "is the prefix right?" in mistyped.stderr

    s3.delete_object(Bucket=name, Key="silver/orders/1")
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    suspended = undelete(aws, name, "silver/orders/")
    assert (suspended.returncode, "Suspended" in suspended.stderr) == (1, True)
    assert s3.get_object(Bucket=name, Key="silver/orders/1")["Body"].read() == b"1"


def commit(n: int, table: str = "silver/fx") -> str:
    return f"{table}/_delta_log/{n:020}.json"


@pytest.fixture
def logs(aws: Aws, lake: str) -> str:
    """A bucket with the logs of a table and of its neighbour."""
    s3, name = aws.client("s3"), lake.removeprefix("s3://")
    keep_versions(s3, name)
    for key in [*map(commit, range(3)), commit(0, "silver/orders")]:
        s3.put_object(Bucket=name, Key=key, Body=b"old")
    return name


@pytest.mark.parametrize(
    ("prefix", "dropped"),
    [("silver/fx/", (0, 1, 2)), ("silver/", (1, 2))],
    ids=["the whole table", "of a layer, commit 0 long cleaned up"],
)
def test_the_log_of_a_table_made_anew_is_not_mixed_with_the_old_one(
    aws: Aws, logs: str, prefix: str, dropped: tuple[int, ...]
) -> None:
    s3 = aws.client("s3")
    for n in dropped:
        s3.delete_object(Bucket=logs, Key=commit(n))
    if 0 not in dropped:
        (first,) = s3.list_object_versions(Bucket=logs, Prefix=commit(0))["Versions"]
        s3.delete_object(Bucket=logs, Key=commit(0), VersionId=first["VersionId"])
        time.sleep(1.1)  # the times of a listing are whole seconds
    s3.put_object(Bucket=logs, Key=commit(0), Body=b"new")
    before = s3.list_object_versions(Bucket=logs)

    refused = undelete(aws, logs, prefix)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"s3://{logs}/{commit(0)} was written " in refused.stderr
    assert "8.12" in refused.stderr
    now = s3.list_object_versions(Bucket=logs)
    assert [now[each] for each in ("Versions", "DeleteMarkers")] == [
        before[each] for each in ("Versions", "DeleteMarkers")
    ]

    # The way of the runbook: the new table's versions go for good.
    (newest,) = [
        each
        for each in s3.list_object_versions(Bucket=logs, Prefix="silver/fx/")["Versions"]
        if each["IsLatest"]
    ]
    s3.delete_object(Bucket=logs, Key=newest["Key"], VersionId=newest["VersionId"])
    assert undelete(aws, logs, prefix).returncode == 0
    found = s3.list_objects_v2(Bucket=logs, Prefix="silver/fx/")["Contents"]
    assert [each["Key"] for each in found] == [commit(n) for n in dropped]


@pytest.mark.parametrize("dropped", [(0,), (1,), (2,)], ids=["the first", "the middle", "the newest"])
def test_a_commit_of_a_log_comes_back_beside_the_others(
    aws: Aws, logs: str, dropped: tuple[int, ...]
) -> None:
    s3 = aws.client("s3")
    for n in dropped:
        s3.delete_object(Bucket=logs, Key=commit(n))
    assert undelete(aws, logs, "silver/fx/").returncode == 0
    found = s3.list_objects_v2(Bucket=logs, Prefix="silver/fx/")["Contents"]
    assert [each["Key"] for each in found] == [commit(n) for n in range(3)]
