"""S3 on disk: what boto3 and Spark rely on, and that a killed server has lost nothing it acknowledged."""

from __future__ import annotations

import hashlib
import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from local.bootstrap import keep_versions
from tests.local.aws_server import Server, bucket, together
from tests.support import REPO, Aws, meets_another

_numbers = itertools.count(1)
THREADS = 8


@pytest.fixture
def s3(aws: Aws) -> Any:
    return aws.client("s3")


@pytest.fixture
def name(aws: Aws) -> str:
    name = f"s3-test-{next(_numbers)}"
    bucket(aws, name)
    return name


def code(error: Any) -> str:
    assert isinstance(error, ClientError), error
    return str(error.response["Error"]["Code"])


# -- conditional writes --------------------------------------------------------------------------------------

CONFLICT = "ConditionalRequestConflict"


def patiently(call: Callable[[], Any]) -> Any:
    """Repeat a call as S3 asks for it."""
    while True:
        try:
            return call()
        except ClientError as error:
            if code(error) != CONFLICT:
                raise
            time.sleep(0.01)


def put(client: Any, name: str, key: str, body: bytes) -> Any:
    return client.put_object(Bucket=name, Key=key, Body=body, IfNoneMatch="*")


def put_with_acl(client: Any, name: str, key: str, body: bytes) -> Any:
    """Takes the way through moto's own handlers."""
    return client.put_object(Bucket=name, Key=key, Body=body, IfNoneMatch="*", ACL="private")


def put_in_parts(client: Any, name: str, key: str, body: bytes) -> Any:
    upload = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
    part = client.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=1, Body=body)
    return client.complete_multipart_upload(
        Bucket=name,
        Key=key,
        UploadId=upload,
        IfNoneMatch="*",
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )


@pytest.mark.parametrize("write", [put, put_with_acl, put_in_parts])
def test_of_many_conditional_creates_exactly_one_succeeds(s3: Any, name: str, write: Any) -> None:
    for round_ in range(4):
        key = f"_delta_log/{round_:020d}.json"
        results = together(
            THREADS, lambda i, key=key: patiently(lambda: write(s3, name, key, f"writer {i}".encode()))
        )
        winners = [i for i, r in enumerate(results) if not isinstance(r, Exception)]
        assert len(winners) == 1, results
        assert {code(r) for i, r in enumerate(results) if i not in winners} == {"PreconditionFailed"}
        assert s3.get_object(Bucket=name, Key=key)["Body"].read() == f"writer {winners[0]}".encode()


def test_compare_and_swap_by_if_match_loses_no_update(s3: Any, name: str) -> None:
    s3.put_object(Bucket=name, Key="counter", Body=b"0")

    def add(_: int) -> int:
        done = 0
        while done < 5:
            current = s3.get_object(Bucket=name, Key="counter")
            value = int(current["Body"].read())
            try:
                s3.put_object(
                    Bucket=name, Key="counter", Body=str(value + 1).encode(), IfMatch=current["ETag"]
                )
                done += 1
            except ClientError as e:
                if code(e) not in {"PreconditionFailed", CONFLICT}:
                    raise
        return done

    assert together(4, add) == [5, 5, 5, 5]
    assert s3.get_object(Bucket=name, Key="counter")["Body"].read() == b"20"


def test_if_none_match_allows_the_key_again_after_its_deletion(s3: Any, name: str) -> None:
    patiently(lambda: put(s3, name, "k", b"1"))
    with pytest.raises(ClientError, match="PreconditionFailed"):
        patiently(lambda: put(s3, name, "k", b"2"))
    s3.delete_object(Bucket=name, Key="k")
    patiently(lambda: put(s3, name, "k", b"3"))
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"3"


@pytest.mark.parametrize("write", [put, put_with_acl, put_in_parts])
def test_some_conditional_writes_meet_another_request(s3: Any, name: str, write: Any) -> None:
    """S3 answers 409 though the key is free: the write has to be repeated, and is no sign that the key exists."""
    keys = [key for key in (f"k-{n}" for n in range(100)) if meets_another(f"{name}/{key}")]
    for key in keys[:2]:
        with pytest.raises(ClientError, match=CONFLICT) as refused:
            write(s3, name, key, b"1")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
        assert not s3.list_objects_v2(Bucket=name, Prefix=key).get("Contents")
        write(s3, name, key, b"1")
        assert s3.get_object(Bucket=name, Key=key)["Body"].read() == b"1"


# -- objects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "a b+c&d=e?f#g.txt",
        "ä/ö/日本",
        "date=2026-01-01/x=%2F/part.parquet",
        "a//b",
        "dir/",
        "'\"<>&",
        "k" * 1000,
    ],
)
def test_keys_of_any_spelling_come_back_as_they_were(s3: Any, name: str, key: str) -> None:
    s3.put_object(Bucket=name, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=name, Key=key)["Body"].read() == key.encode()
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=name)["Contents"]] == [key]
    assert s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key}]})["Deleted"][0]["Key"] == key
    assert "Contents" not in s3.list_objects_v2(Bucket=name)


def test_an_object_keeps_its_headers_and_etag(s3: Any, name: str) -> None:
    s3.put_object(
        Bucket=name,
        Key="k",
        Body=b"data",
        ContentType="application/json",
        ContentEncoding="gzip",
        CacheControl="no-store",
        Metadata={"run-id": "r1", "Under_Score": "x"},
    )
    for found in (s3.head_object(Bucket=name, Key="k"), s3.get_object(Bucket=name, Key="k")):
        assert found["ContentType"] == "application/json"
        assert found["ContentEncoding"] == "gzip"
        assert found["CacheControl"] == "no-store"
        assert found["Metadata"] == {"run-id": "r1", "under_score": "x"}
        assert found["ETag"] == f'"{hashlib.md5(b"data").hexdigest()}"'
        assert found["ContentLength"] == 4


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("bytes=0-3", b"0123"),
        ("bytes=4-", b"456789"),
        ("bytes=-3", b"789"),
        ("bytes=8-100", b"89"),
        ("bytes=0-0", b"0"),
    ],
)
def test_a_range_gives_those_bytes(s3: Any, name: str, asked: str, got: bytes) -> None:
    s3.put_object(Bucket=name, Key="k", Body=b"0123456789")
    answer = s3.get_object(Bucket=name, Key="k", Range=asked)
    assert answer["Body"].read() == got
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["ContentRange"].endswith("/10")


def test_a_range_behind_the_end_is_refused(s3: Any, name: str) -> None:
    s3.put_object(Bucket=name, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(Bucket=name, Key="k", Range="bytes=10-")


def test_what_is_not_there_is_not_found(s3: Any, name: str) -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=name, Key="nothing")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=name, Key="nothing")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.get_object(Bucket="no-such-bucket", Key="nothing")
    s3.delete_object(Bucket=name, Key="nothing")


def test_a_body_that_does_not_match_its_digest_is_refused(s3: Any, name: str) -> None:
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(Bucket=name, Key="k", Body=b"data", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(
            Bucket=name, Key="k", Body=b"data", ChecksumSHA256="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        )
    assert "Contents" not in s3.list_objects_v2(Bucket=name)


def test_a_large_object_goes_up_in_parts_and_comes_down_whole(s3: Any, name: str, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(17 << 20)
    (tmp_path / "up").write_bytes(data)
    s3.upload_file(str(tmp_path / "up"), name, "big")
    s3.download_file(name, "big", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data
    assert s3.head_object(Bucket=name, Key="big")["ETag"].endswith('-3"')
    s3.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "big"})
    answer = s3.get_object(Bucket=name, Key="copy", Range="bytes=9000000-9000009")
    assert answer["Body"].read() == data[9000000:9000010]


def test_versions_and_delete_markers(s3: Any, name: str) -> None:
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket=name, Key="k", Body=b"2")
    marker = s3.delete_object(Bucket=name, Key="k")
    assert marker["DeleteMarker"]
    assert "Contents" not in s3.list_objects_v2(Bucket=name)
    put(s3, name, "other", b"x")
    assert s3.get_object(Bucket=name, Key="k", VersionId=first)["Body"].read() == b"1"
    listed = s3.list_object_versions(Bucket=name)
    assert len(listed["Versions"]) == 3
    assert len(listed["DeleteMarkers"]) == 1
    s3.delete_object(Bucket=name, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"2"
    for version in [*listed["Versions"], *s3.list_object_versions(Bucket=name)["Versions"]]:
        s3.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=name)


def test_many_deleted_at_once_leave_markers(s3: Any, name: str) -> None:
    keep_versions(s3, name)
    for key in ("a", "b/c", "b/d", "e"):
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    objects = [{"Key": "a"}, {"Key": "b/c"}, {"Key": "never"}]
    told = s3.delete_objects(Bucket=name, Delete={"Objects": objects})["Deleted"]  # type: ignore[typeddict-item]
    markers = s3.list_object_versions(Bucket=name)["DeleteMarkers"]
    assert [m["Key"] for m in markers] == ["a", "b/c"]
    assert {d["Key"]: d.get("DeleteMarkerVersionId") for d in told} == {
        "a": markers[0]["VersionId"], "b/c": markers[1]["VersionId"], "never": None,
    }  # fmt: skip
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=name, Key="a")
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=name, Key="a")
    put(s3, name, "a", b"anew")  # a deleted key is free
    assert [v["IsLatest"] for v in s3.list_object_versions(Bucket=name, Prefix="a")["Versions"]] == [
        True,
        False,
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_versions_are_listed_page_by_page(s3: Any, name: str, size: int, delimiter: str) -> None:
    keep_versions(s3, name)
    for key in ("x/a", "x/b", "x/b", "x/dir/1", "x/dir/2", "x/e", "y"):
        s3.put_object(Bucket=name, Key=key, Body=b"1")
    s3.delete_object(Bucket=name, Key="x/b")
    s3.delete_object(Bucket=name, Key="x/e")
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=name, Prefix="x/", Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    listed = [p for page in pages for p in (page.get("Versions", []), page.get("DeleteMarkers", []))]
    versions = sorted((v["Key"], v["IsLatest"]) for part in listed[::2] for v in part)
    markers = sorted((v["Key"], v["IsLatest"]) for part in listed[1::2] for v in part)
    below = [] if delimiter else [("x/dir/1", True), ("x/dir/2", True)]
    assert versions == [("x/a", True), ("x/b", False), ("x/b", False), *below, ("x/e", False)]
    assert markers == [("x/b", True), ("x/e", True)]


def test_old_versions_go_and_what_is_current_stays(tmp_path: Path) -> None:
    """In a process of its own: the store is put under moto once."""
    script = tmp_path / "expire.py"
    script.write_text(EXPIRE)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


EXPIRE = """
import sys
sys.path.insert(0, ".")
from datetime import timedelta
from pathlib import Path
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.utils import utcnow
from moto.s3.models import s3_backends
from local.aws import s3_store

disk = s3_store.install(Path(sys.argv[1]) / "s3")
backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
now = utcnow()
for name in ("kept", "lake"):
    backend.create_bucket(name, "eu-central-1")
    backend.put_bucket_versioning(name, "Enabled")
    for key, body in (("current", b"1"), ("overwritten", b"1"), ("overwritten", b"2"), ("dropped", b"1")):
        with disk.unit_of_work():
            backend.put_object(name, key, body)
    backend.delete_object(name, "dropped")
backend.put_bucket_lifecycle("lake", [{
    "ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": "7"}, "Expiration": {"ExpiredObjectDeleteMarker": "true"},
}])
assert disk.expire(now + timedelta(days=6)) == 0
assert disk.expire(now + timedelta(days=8)) == 3  # the old version, the dropped one, and the marker above it
keys = backend.buckets["lake"].keys
assert {k: [v.value for v in keys.getlist(k)] for k in keys} == {"current": [b"1"], "overwritten": [b"2"]}
assert disk.expire(now + timedelta(days=800)) == 0
assert len(backend.buckets["kept"].keys) == 3
s3_store.GRACE_SECONDS = -1
disk.discard("x")
assert sum(1 for f in disk.blobs.rglob("*") if f.is_file()) == 2 + 4
"""


# -- lists ---------------------------------------------------------------------------------------------------


def expected_page(keys: list[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """What S3 lists, said simply."""
    inside = sorted(k for k in keys if k.startswith(prefix))
    if not delimiter:
        return inside, []
    folders = sorted(
        {
            prefix + k[len(prefix) :].split(delimiter)[0] + delimiter
            for k in inside
            if delimiter in k[len(prefix) :]
        }
    )
    return [k for k in inside if delimiter not in k[len(prefix) :]], folders


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
def test_lists_page_through_exactly_what_is_there(s3: Any, name: str, operation: str) -> None:
    rng = random.Random(7)
    keys = sorted(
        {
            "/".join(rng.choice(["a", "b", "b-", "c d", "ü"]) for _ in range(rng.randint(1, 4)))
            for _ in range(25)
        }
    )
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=b"")
    for prefix, delimiter, size in itertools.product(
        ["", "a", "a/", "b", "b/b-/", "none"], ["", "/"], [2, 1000]
    ):
        found: list[str] = []
        folders: list[str] = []
        for page in s3.get_paginator(operation).paginate(
            Bucket=name, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
        ):
            entries = page.get("Contents", [])
            prefixes = page.get("CommonPrefixes", [])
            assert len(entries) + len(prefixes) <= size
            found += [o["Key"] for o in entries]
            folders += [p["Prefix"] for p in prefixes]
        assert (found, folders) == expected_page(keys, prefix, delimiter), (prefix, delimiter, size)
    after = s3.list_objects_v2(Bucket=name, StartAfter=keys[6])
    assert [o["Key"] for o in after["Contents"]] == keys[7:]


def test_a_bucket_of_many_keys_is_listed_by_its_index(aws: Aws) -> None:
    from local.aws.s3_store import IndexedKeys

    keys = IndexedKeys("many")
    keys.names = [f"silver/orders/{i:06d}.parquet" for i in range(200_000)]
    keys._live = lambda name: name  # type: ignore[method-assign]
    begun = time.perf_counter()
    for i in range(100):
        found, more, _ = keys.page(f"silver/orders/{i:03d}", None, "", 10)
        assert (len(found), more) == (10, True)
    assert time.perf_counter() - begun < 0.5


# -- the process dies ----------------------------------------------------------------------------------------


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def test_a_killed_server_has_everything_it_acknowledged(mortal: Server) -> None:
    aws = mortal.start()
    s3 = bucket(aws, "lake")
    acknowledged: dict[str, bytes] = {}
    gone: set[str] = set()
    stop = threading.Event()

    def write(i: int) -> None:
        n = 0
        while not stop.is_set():
            key, body = f"w{i}/{n:05d}", f"{i} {n} ".encode() * (1 + n * 37 % 500)
            try:
                s3.put_object(Bucket="lake", Key=key, Body=body)
                acknowledged[key] = body
                if n % 5 == 4:
                    old = f"w{i}/{n - 3:05d}"
                    gone.add(old)  # from here on either is right
                    s3.delete_object(Bucket="lake", Key=old)
            except (ClientError, BotoCoreError):
                return
            n += 1

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 120:
        time.sleep(0.02)
    mortal.kill()
    stop.set()
    for thread in threads:
        thread.join()
    s3 = mortal.start().client("s3")
    listed = {
        o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(Bucket="lake") for o in p["Contents"]
    }
    missing = set(acknowledged) - gone - listed
    assert not missing
    for key in listed & set(acknowledged):
        assert s3.get_object(Bucket="lake", Key=key)["Body"].read() == acknowledged[key]
    files = {p.name for p in (mortal.state / "s3" / "blobs").rglob("*") if p.is_file()}
    assert len(files) == len(listed), (
        "files of what was never acknowledged, or of what was deleted, are cleared away"
    )


@dataclass
class Survivor:
    """A server that has been killed and started again, and what was told before."""

    aws: Aws
    first: str
    upload: str
    part: str
    topic: str


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survivor]:
    server = Server(tmp_path_factory.mktemp("survivor"))
    aws = server.start()
    s3 = bucket(aws, "lake")
    s3.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket="lake", Tagging={"TagSet": [{"Key": "project", "Value": "lakehouse"}]})
    s3.put_bucket_lifecycle_configuration(
        Bucket="lake",
        LifecycleConfiguration={
            "Rules": [
                {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 7}}
            ]
        },
    )
    first = s3.put_object(Bucket="lake", Key="k", Body=b"1", Tagging="a=b")["VersionId"]
    s3.put_object(Bucket="lake", Key="k", Body=b"2")
    s3.put_object(Bucket="lake", Key="dropped", Body=b"x")
    s3.delete_object(Bucket="lake", Key="dropped")
    upload = s3.create_multipart_upload(Bucket="lake", Key="big", Metadata={"m": "1"})["UploadId"]
    part = s3.upload_part(Bucket="lake", Key="big", UploadId=upload, PartNumber=1, Body=b"p" * 100)["ETag"]
    aws.client("glue").create_database(DatabaseInput={"Name": "gold"})
    aws.client("glue").create_table(
        DatabaseName="gold",
        TableInput={
            "Name": "t",
            "Parameters": {"a": "b"},
            "StorageDescriptor": {"Columns": [{"Name": "id", "Type": "bigint"}]},
        },
    )
    aws.client("secretsmanager").create_secret(Name="s", SecretString="one")
    aws.client("secretsmanager").put_secret_value(SecretId="s", SecretString="two")
    topic = aws.client("sns").create_topic(Name="alerts")["TopicArn"]
    aws.client("athena").create_work_group(Name="w", Configuration={})
    aws.client("dynamodb").create_table(
        TableName="d",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    )
    aws.client("dynamodb").put_item(TableName="d", Item={"k": {"S": "x"}})
    server.kill()
    yield Survivor(server.start(), first, upload, part, topic)
    server.stop()


def test_versions_tags_uploads_and_bucket_settings_survive(survivor: Survivor) -> None:
    s3, first = survivor.aws.client("s3"), survivor.first
    assert s3.get_bucket_versioning(Bucket="lake")["Status"] == "Enabled"
    assert s3.get_bucket_tagging(Bucket="lake")["TagSet"] == [{"Key": "project", "Value": "lakehouse"}]
    assert s3.get_bucket_lifecycle_configuration(Bucket="lake")["Rules"][0]["ID"] == "r"
    assert s3.get_object(Bucket="lake", Key="k", VersionId=first)["Body"].read() == b"1"
    assert s3.get_object(Bucket="lake", Key="k")["Body"].read() == b"2"
    tags = s3.get_object_tagging(Bucket="lake", Key="k", VersionId=first)["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]
    assert [m["Key"] for m in s3.list_object_versions(Bucket="lake")["DeleteMarkers"]] == ["dropped"]
    s3.complete_multipart_upload(
        Bucket="lake",
        Key="big",
        UploadId=survivor.upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": survivor.part}]},
    )
    found = s3.get_object(Bucket="lake", Key="big")
    assert found["Body"].read() == b"p" * 100
    assert found["Metadata"] == {"m": "1"}


def test_the_small_services_survive(survivor: Survivor) -> None:
    aws = survivor.aws
    assert aws.client("glue").get_table(DatabaseName="gold", Name="t")["Table"]["Parameters"] == {"a": "b"}
    assert aws.client("secretsmanager").get_secret_value(SecretId="s")["SecretString"] == "two"
    assert [t["TopicArn"] for t in aws.client("sns").list_topics()["Topics"]] == [survivor.topic]
    assert "w" in [w["Name"] for w in aws.client("athena").list_work_groups()["WorkGroups"]]
    assert aws.client("dynamodb").scan(TableName="d")["Count"] == 1
