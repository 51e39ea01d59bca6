"""Which objects of a table are missing or not what was written, seen without Spark."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.errors import AnalysisException

from lakehouse import store
from lakehouse.delta import damage
from lakehouse.delta.broken import MISSING, Broken, broken, broken_commits, broken_log, read_log
from lakehouse.errors import LandingConflict, TableUnreadable
from tests.support import Aws, meets_another

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_COMMITS = 12
# Where the checkpoint is.
_CHECKPOINT = 10


@pytest.fixture(scope="module")
def reachable(aws: Aws) -> Iterator[str]:
    """A bucket of the module's own."""
    aws.client("s3").create_bucket(
        Bucket="broken", CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.env.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        yield "s3://broken"
    store.client.cache_clear()


@pytest.fixture(scope="module")
def original(reachable: str) -> str:
    """A table of twelve commits of a file each, with a checkpoint of version 10."""
    # delta-rs, which makes no table but in tests, does not repeat what met another request (409).
    uris = (f"{reachable}/silver/original{n}" for n in itertools.count())
    uri = next(uri for uri in uris if not any(map(meets_another, commits_of(uri))))
    for n in range(_COMMITS):
        rows = pa.table({"id": [f"{n}-{m}" for m in range(50)], "n": list(range(50))})
        write_deltalake(uri, rows, mode="append", storage_options=store.delta_options())
        if n == _CHECKPOINT:
            DeltaTable(uri, storage_options=store.delta_options()).create_checkpoint()
    return uri


@pytest.fixture
def reader(spark: SparkSession, aws: Aws, original: str) -> SparkSession:
    """A session that reaches the bucket."""
    spark._jsc.hadoopConfiguration().set("fs.s3a.endpoint", aws.endpoint)
    return spark


def commits_of(uri: str) -> list[str]:
    return [f"{uri.removeprefix('s3://')}/{commit(n)}" for n in range(_COMMITS)]


def commit(version: int) -> str:
    return f"_delta_log/{version:020}.json"


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]


CHECKPOINT = f"_delta_log/{_CHECKPOINT:020}.checkpoint.parquet"
POINTER = "_delta_log/_last_checkpoint"
#: What is done to an object, and what is said of it; "data" is the first data file.
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "data deleted": ("data", lambda _: None, MISSING),
    "data empty": ("data", lambda _: b"", "has 0 bytes"),
    "data of a truncated footer": ("data", lambda body: body[:-3], "bytes, where"),
    "data with a flipped byte": ("data", lambda body: flipped(body, 60), "is no whole Parquet file"),
    "commit garbage": (commit(11), lambda _: b"garbage", "is no commit of a Delta log"),
    "commit empty": (commit(11), lambda _: b"", "is empty"),
    "checkpoint garbage": (CHECKPOINT, lambda _: b"garbage" * 9, "is no whole Parquet file"),
    "checkpoint with a flipped byte": (
        CHECKPOINT,
        lambda body: flipped(body, 60),
        "no ",  # whole Parquet file, or, where nobody wrote checksums, what a reader follows
    ),
    "pointer nowhere": (POINTER, lambda _: b'{"version": 40, "size": 3}', "the checkpoint of version 40"),
    "pointer garbage": (POINTER, lambda _: b"garbage", "does not name a checkpoint"),
}


def damaged(original: str, name: str, what: str, how: Callable[[bytes], bytes | None]) -> tuple[str, str]:
    """A copy of the table with one object broken; the copy and the object."""
    uri = f"{original.rpartition('/')[0]}/{name}"
    for each in store.keys(f"{original}/"):
        store.copy(each, uri + each.removeprefix(original))
    if what == "data":
        what = next(
            each.removeprefix(f"{uri}/")
            for each in store.keys(f"{uri}/")
            if each.endswith(".parquet") and "_delta_log" not in each
        )
    body = how(store.get(f"{uri}/{what}") or b"")
    if body is None:
        store.delete(f"{uri}/{what}")
    else:
        store.put(f"{uri}/{what}", body)
    return uri, f"{uri}/{what}"


def test_a_whole_table_and_none_are_not_broken(original: str) -> None:
    assert broken(original) == []
    assert broken(f"{original}-that-is-not-there") == []


def test_old_commits_that_a_checkpoint_repeats_may_go(original: str) -> None:
    uri, _ = damaged(original, "cleaned", commit(3), lambda _: None)
    assert broken(uri) == []


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_is_found_with_its_object(
    original: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # S3 tells whole seconds: all files count as written again, and are looked into.
    monkeypatch.setattr("lakehouse.delta.broken._SINCE", timedelta(days=-1))
    uri, at = damaged(original, kind.replace(" ", "_"), *DAMAGES[kind][:2])
    (found,) = broken(uri)
    assert found.uri == at
    assert DAMAGES[kind][2] in found.problem


def test_a_gap_behind_a_broken_checkpoint_is_told_with_it(original: str) -> None:
    uri, at = damaged(original, "both", CHECKPOINT, lambda _: b"garbage")
    store.delete(f"{uri}/{commit(5)}")
    gap = Broken(f"{uri}/{commit(5)}", MISSING)
    assert broken_log(uri) == sorted([Broken(at, "is no whole Parquet file"), gap])
    assert broken_commits(read_log(uri), -1) == [gap]
    assert broken_commits(read_log(uri), _CHECKPOINT) == []


def test_the_newest_commit_is_missed_by_its_checksum(original: str) -> None:
    uri, at = damaged(original, "newest", commit(11), lambda _: None)
    assert broken(uri) == []
    store.put(at.replace(".json", ".crc"), b"{}")
    assert broken(uri) == [Broken(at, MISSING)]


# What Spark says of it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "data deleted",
        "data empty",
        "data of a truncated footer",
        "data with a flipped byte",
        "commit garbage",
    ],
)
def test_spark_s_words_become_the_table_and_its_object(
    reader: SparkSession, original: str, kind: str
) -> None:
    uri, at = damaged(original, f"spark_{kind.replace(' ', '_')}", *DAMAGES[kind][:2])
    with pytest.raises(Exception) as raised:  # noqa: PT011  # whatever Delta and Spark make of it
        reader.read.format("delta").load(uri).collect()
    told = damage.recognised(raised.value)
    assert isinstance(told, TableUnreadable)
    name = f"silver.{uri.rpartition('/')[2]}"
    assert told.tables == (name,)
    assert at in told.message
    assert "SQLSTATE" not in told.message
    assert told.hint == f"scripts/emr_submit.sh recover repair --table {name}"


def test_where_delta_names_no_object_the_logs_are_looked_at(reader: SparkSession, original: str) -> None:
    uri, at = damaged(original, "gap", commit(0), lambda _: None)
    for each in (CHECKPOINT, POINTER):
        store.delete(f"{uri}/{each}")
    with pytest.raises(Exception) as raised:  # noqa: PT011  # Delta's own
        reader.read.format("delta").load(uri).collect()
    told = damage.recognised(
        raised.value, lambda: damage.look({"silver.gap": uri, "silver.original": original})
    )
    assert isinstance(told, TableUnreadable)
    assert told.message == f"silver.gap cannot be read: {at} {MISSING}"


def test_a_file_of_a_landing_is_told_as_that() -> None:
    run = "20260101T000000Z-00000000-0000-0000-0000-000000000000"
    at = f"s3://lake/landing/fx/fx_rates/{run}/part-0.jsonl.gz"
    told = damage.recognised(
        AnalysisException(f"[FAILED_READ_FILE.NO_HINT] while reading file {at}. SQLSTATE: KD001")
    )
    assert isinstance(told, LandingConflict)
    assert told.hint.endswith(f"recover discard --table bronze.fx_rates --run {run}")
    assert at in told.message
