"""Locations of objects, whatever characters their keys have."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse import store
from lakehouse.errors import ConfigError

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
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        store.put(f"{lake}/{key}", key.encode())
        store.delete(f"{lake}/{key}")

    markers = s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]
    gone = [{"Key": marker["Key"], "VersionId": marker["VersionId"]} for marker in markers]
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": gone})  # type: ignore[typeddict-item]

    assert {key: store.get(f"{lake}/{key}") for key in KEYS} == {key: key.encode() for key in KEYS}
