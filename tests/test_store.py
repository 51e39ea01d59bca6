"""Objects on S3: keys of any characters, and what a conditional create makes of each answer of the service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from lakehouse import store
from lakehouse.errors import ConfigError, TransientError
from local.bootstrap import keep_versions
from tests.support import met_key

URI = "s3://bucket/key"
KEYS = [
    "orders #3.csv",
    "orders?.csv",
    "a?b#c&d=e;f",
    "tab\there.csv",
    "line\nbreak.csv",
    "return\r.csv",
    "100%.csv",
    "50%2F50.csv",
    "a+b c.csv",
    "größe/日本/😀.csv",
    "e\u0301 and \u00e9.csv",
    " leading and trailing ",
    "back\\slash.csv",
    "a//b.csv",
    "/leading.csv",
    "'quoted' \"twice\" <tag> &amp;.csv",
    "../up.csv",
    "{curly}[square]*`tick`|~^.csv",
    "\u2028separator.csv",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_character_for_character(key: str) -> None:
    assert store.split(f"s3://lake/{key}") == ("lake", key)


@pytest.mark.parametrize(
    "uri", ["", "lake/key", "https://lake/key", "s3:///key", "s3:lake/key", "s3a://lake/k"]
)
def test_what_is_no_location_on_s3_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/key"):
        store.split(uri)


def test_objects_of_any_name_are_written_listed_read_copied_and_deleted(lake: str, tmp_path: Path) -> None:
    local = tmp_path / "file"
    local.write_bytes(b"uploaded")
    uris = [f"{lake}/in/{key}" for key in KEYS]

    for uri in uris:
        store.put(uri, uri.encode())
    assert sorted(store.keys(f"{lake}/in/")) == sorted(uris)
    assert store.get_many(uris) == [uri.encode() for uri in uris]

    for uri in uris:
        target = uri.replace("/in/", "/out/")
        store.copy(uri, target)
        assert not store.put_if_absent(target, b"another")
        assert store.get(target) == uri.encode()
        store.upload(target, str(local))
        assert store.get(target) == b"uploaded"
        assert [found.uri for found in store.objects(target)] == [target]
        store.delete(target)
    assert list(store.keys(f"{lake}/out/")) == []


def test_deleted_objects_of_any_name_come_back_where_their_markers_go(lake: str) -> None:
    s3, bucket = store.client(), lake.removeprefix("s3://")
    keep_versions(s3, bucket)
    for key in KEYS:
        store.put(f"{lake}/{key}", key.encode())
        store.delete(f"{lake}/{key}")

    markers = s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]
    gone = [{"Key": marker["Key"], "VersionId": marker["VersionId"]} for marker in markers]
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": gone})  # type: ignore[typeddict-item]

    assert {key: store.get(f"{lake}/{key}") for key in KEYS} == {key: key.encode() for key in KEYS}


def test_an_object_is_created_once(lake: str) -> None:
    uri = f"{lake}/ops/once.json"
    assert store.put_if_absent(uri, b"1")
    assert not store.put_if_absent(uri, b"2")
    assert store.put_if_absent(uri, b"1"), "the call repeated after a lost answer is the one that created it"
    assert store.get(uri) == b"1"


def test_a_create_that_met_another_request_is_repeated(lake: str) -> None:
    uri = met_key(lake, "gold/quality/{}.json")
    assert store.put_if_absent(uri, b"1")
    assert store.get(uri) == b"1"
    assert not store.put_if_absent(uri, b"2")


class TestAnswers:
    """What S3 may answer in a row."""

    @pytest.fixture(autouse=True)
    def s3(self, monkeypatch: pytest.MonkeyPatch) -> Stubber:
        client = boto3.client(
            "s3", region_name="eu-central-1", aws_access_key_id="-", aws_secret_access_key="-"
        )
        monkeypatch.setattr(store, "client", lambda: client)
        monkeypatch.setattr(store, "_CONFLICT_WAITS", (0.0,) * 3)
        stubber = Stubber(client)
        stubber.activate()
        return stubber

    def refused(self, s3: Stubber, status: int, code: str) -> None:
        s3.add_client_error("put_object", service_error_code=code, http_status_code=status)

    def test_conflicts_are_repeated_and_in_the_end_transient(self, s3: Stubber) -> None:
        for _ in range(3):
            self.refused(s3, 409, "ConditionalRequestConflict")
        with pytest.raises(TransientError, match=r"received a conflict .* 3 times"):
            store.put_if_absent(URI, b"1")
        s3.assert_no_pending_responses()

    def test_a_conflict_says_nothing_of_the_key(self, s3: Stubber) -> None:
        self.refused(s3, 409, "ConditionalRequestConflict")
        s3.add_response("put_object", {})
        assert store.put_if_absent(URI, b"1")
        s3.assert_no_pending_responses()

    def test_a_key_that_is_gone_when_it_is_looked_up_is_free(self, s3: Stubber) -> None:
        self.refused(s3, 412, "PreconditionFailed")
        s3.add_client_error("get_object", service_error_code="NoSuchKey", http_status_code=404)
        s3.add_response("put_object", {})
        assert store.put_if_absent(URI, b"1")
        s3.assert_no_pending_responses()

    def test_other_refusals_are_the_callers(self, s3: Stubber) -> None:
        self.refused(s3, 403, "AccessDenied")
        with pytest.raises(store.ClientError, match="AccessDenied"):
            store.put_if_absent(URI, b"1")


def test_what_is_there_decides_what_is_written(lake: str) -> None:
    uri = f"{lake}/counter.json"
    assert store.replace(uri, lambda there: b"1" if there is None else None) == b"1"
    assert store.replace(uri, lambda there: b"1" if there is None else None) is None
    assert store.replace(uri, lambda there: (there or b"") + b"2") == b"12"
    assert store.get(uri) == b"12"


def test_no_write_of_many_at_once_is_lost(lake: str) -> None:
    """Of keys that meet another request now and then, too."""
    uri = met_key(lake, "counter-{}.json")

    def count(there: bytes | None) -> bytes:
        return str(int(there or b"0") + 1).encode()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.replace(uri, count), range(12)))
    assert store.get(uri) == b"12"


def test_what_another_deleted_meanwhile_is_written_anew(lake: str) -> None:
    uri = f"{lake}/gone.json"
    store.put(uri, b"1")
    seen: list[bytes | None] = []

    def wanted(there: bytes | None) -> bytes:
        if not seen:
            store.delete(uri)
        seen.append(there)
        return b"2"

    assert store.replace(uri, wanted) == b"2"
    assert seen == [b"1", None]
