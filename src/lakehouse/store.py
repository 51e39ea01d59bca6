"""Small objects on S3: manifests, verdicts, outcomes. The only module that talks to S3 without Spark."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import BaseModel, ValidationError

from lakehouse.errors import ConfigError, StateUnreadable, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

M = TypeVar("M", bound=BaseModel)

# Seconds between the tries of a conditional create that met another request for its key; up to double, by chance.
_CONFLICT_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URI. Raises ConfigError for anything else.

    A key is what stands behind the bucket, character for character: S3 knows no queries, fragments and escapes, and a
    URL's parser would cut a key at ``#`` or ``?`` and take tabs and line breaks out of it.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"received the location {uri!r}, expected s3://bucket/key")
    return bucket, key


# The Region of the settings, once they are read.
_chosen: list[str] = []


def use_region(name: str) -> None:
    """Let every client of this process that is made from now on be of a Region."""
    if _chosen != [name]:
        _chosen[:] = [name]
        client.cache_clear()


def region() -> str | None:
    """The Region for clients: that of the settings; while these are still to be read, the environment's.

    boto3 knows AWS_DEFAULT_REGION alone; EMR Serverless and a submission set AWS_REGION.
    """
    names = ("AWS_REGION", "AWS_DEFAULT_REGION")
    return next(iter(_chosen), None) or next(
        (os.environ[name] for name in names if os.environ.get(name)), None
    )


@functools.cache
def client() -> S3Client:
    """One S3 client a process; endpoint and credentials come from the environment as boto3 reads them."""
    return boto3.client(
        "s3",
        region_name=region(),
        config=Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=16),
    )


def delta_options() -> dict[str, str]:
    """delta-rs takes the endpoint from the environment as boto3 does, but plain HTTP only where it is told to."""
    plain = {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else {}
    return plain | ({"region": name} if (name := region()) else {})


def get(uri: str) -> bytes | None:
    """The object's bytes, or None where there is no such key."""
    bucket, key = split(uri)
    try:
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
            return None
        raise


def get_end(uri: str, size: int) -> bytes:
    """The last ``size`` bytes of an object that is there; all of a smaller one."""
    bucket, key = split(uri)
    return client().get_object(Bucket=bucket, Key=key, Range=f"bytes=-{size}")["Body"].read()


def put(uri: str, body: bytes, *, content_type: str = "application/json") -> None:
    """Write, replacing what is there."""
    bucket, key = split(uri)
    client().put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)


def put_if_absent(uri: str, body: bytes, *, content_type: str = "application/json") -> bool:
    """Create the object; False where the key exists already with other bytes (conditional write, If-None-Match: *).

    S3 answers 412 where the key exists, and 409 where another request is at work on it: that says nothing of the key,
    and S3 wants the call repeated. Raises TransientError where it keeps saying so.
    """
    bucket, key = split(uri)
    for wait in _CONFLICT_WAITS:
        try:
            client().put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status not in {409, 412}:
                raise
            # After a lost answer the call is repeated, by the SDK or here: a refusal may speak of our own first try.
            there = get(uri) if status == 412 else None
            if there is not None:
                return there == body
        else:
            return True
        time.sleep(wait * random.uniform(1, 2))  # nosec B311: when to try again is no secret
    raise TransientError(
        f"{uri}: received a conflict with another request for this key {len(_CONFLICT_WAITS)} times, expected it to be "
        "created or to exist; it was not created by this call",
        hint="run the task again",
    )


def replace(uri: str, wanted: Callable[[bytes | None], bytes | None]) -> bytes | None:
    """Write what ``wanted`` makes of what is there (None: no such key); it is asked again if another wrote meanwhile.

    After a lost answer it is asked about its own bytes. Returns what was written, or None where it wanted nothing.
    Conditional writes: If-Match, If-None-Match.
    Raises TransientError where others keep writing, or S3 keeps saying that they do.
    """
    bucket, key = split(uri)
    for wait in _CONFLICT_WAITS:
        there, condition = _with_condition(bucket, key)
        body = wanted(there)
        if body is None:
            return None
        try:
            client().put_object(
                Bucket=bucket, Key=key, Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            # NoSuchKey: another deleted it after we read it.
            if status not in {409, 412} and error.response["Error"]["Code"] != "NoSuchKey":
                raise
        else:
            return body
        time.sleep(wait * random.uniform(1, 2))  # nosec B311: when to try again is no secret
    raise TransientError(
        f"{uri}: received a conflict with another request for this key {len(_CONFLICT_WAITS)} times, expected it to be "
        "replaced; it was not written by this call",
        hint="run the task again",
    )


class _Condition(TypedDict, total=False):
    IfMatch: str
    IfNoneMatch: str


def _with_condition(bucket: str, key: str) -> tuple[bytes | None, _Condition]:
    """The object's bytes, and what a write has to ask for to replace these and no others."""
    try:
        found = client().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
            return None, {"IfNoneMatch": "*"}
        raise
    return found["Body"].read(), {"IfMatch": found["ETag"]}


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it."""

    uri: str
    bytes: int
    modified: datetime
    etag: str = ""


def objects(prefix_uri: str) -> Iterator[StoredObject]:
    """Objects below a prefix, in the order of their keys."""
    bucket, prefix = split(prefix_uri)
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            yield StoredObject(
                f"s3://{bucket}/{item['Key']}", item["Size"], item["LastModified"], item["ETag"].strip('"')
            )


def keys(prefix_uri: str) -> Iterator[str]:
    """URIs below a prefix, in the order of their keys."""
    return (item.uri for item in objects(prefix_uri))


def get_many(uris: list[str]) -> list[bytes]:
    """The bytes of many small objects, read side by side, in the order given; a key gone meanwhile is left out."""
    return [body for _, body in get_each(uris)]


def get_each(uris: list[str]) -> list[tuple[str, bytes]]:
    """As ``get_many``, each with its URI."""
    if not uris:
        return []
    with ThreadPoolExecutor(max_workers=min(16, len(uris))) as pool:
        return [(uri, body) for uri, body in zip(uris, pool.map(get, uris), strict=True) if body is not None]


def parsed(model: type[M], uri: str, body: bytes) -> M:
    """An object that a job wrote as this model. Raises StateUnreadable, naming it, where it is none."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise StateUnreadable(
            f"{uri}: received {len(body)} bytes that are no {model.__name__} ({where}: {first['msg']}), expected what "
            "a job wrote there",
            hint="put the version that the bucket keeps of it back (RUNBOOK_AWS_2025.md 8.19), then repeat",
        ) from error


def parsed_each(model: type[M], uris: list[str]) -> list[M]:
    """Many objects of a model, in the order given; a key gone meanwhile is left out."""
    return [parsed(model, uri, body) for uri, body in get_each(uris)]


def has_versions(prefix_uri: str) -> bool:
    """Whether the bucket holds any object below a prefix, be it deleted: then a version of it is left."""
    bucket, prefix = split(prefix_uri)
    pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return any(page.get("Versions") for page in pages)


def kept_days(bucket_uri: str) -> int | None:
    """How many days a bucket keeps what was overwritten or deleted: 0 where it has no versions, None where for ever.

    Read from its versioning and its lifecycle rules that hold for all objects.
    """
    bucket, _ = split(f"{bucket_uri}/")
    if "Status" not in client().get_bucket_versioning(Bucket=bucket):
        return 0
    try:
        rules = client().get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        return None
    return removed_after([dict(rule) for rule in rules])


def removed_after(rules: Sequence[Mapping[str, Any]]) -> int | None:
    """After how many days lifecycle rules remove every old version of all objects; None where none does."""
    days = [
        rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in rules
        if rule["Status"] == "Enabled"
        and "NoncurrentDays" in rule.get("NoncurrentVersionExpiration", {})
        # A number of old versions that stay, whatever their age.
        and "NewerNoncurrentVersions" not in rule["NoncurrentVersionExpiration"]
        and not _is_narrowed(rule)
    ]
    return min(days, default=None)


def _is_narrowed(rule: Mapping[str, Any]) -> bool:
    """Whether a lifecycle rule holds for some objects only. An old form has its prefix beside the filter."""
    return bool(rule.get("Prefix")) or any(value != "" for value in (rule.get("Filter") or {}).values())


def superseded_since(prefix_uri: str, before: datetime) -> Iterator[datetime]:
    """Of each version below a prefix that was written before a time and is the newest no longer: since when.

    A version is superseded by the next of its key, or by a delete marker.
    """
    bucket, prefix = split(prefix_uri)
    newer: tuple[str, datetime] | None = None
    for page in client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        entries = [
            (item["Key"], item["LastModified"], item["IsLatest"], is_version)
            for listed, is_version in (
                (page.get("Versions", []), True),
                (page.get("DeleteMarkers", []), False),
            )
            for item in cast("list[Any]", listed)
        ]
        # As S3 lists each of the two: by key, the newest first.
        for key, modified, is_latest, is_version in sorted(
            entries, key=lambda one: (one[0], -one[1].timestamp(), not one[2])
        ):
            if is_version and not is_latest and modified < before and newer is not None and newer[0] == key:
                yield newer[1]
            newer = (key, modified)


@dataclass(frozen=True)
class StoredVersion:
    """A version of an object that a bucket keeps below its newest one, or below the marker of its deletion."""

    uri: str
    version_id: str
    modified: datetime


def earlier_versions(uri: str) -> list[StoredVersion]:
    """The versions of an object but for what is there now, the newest first; none where the bucket keeps none."""
    bucket, key = split(uri)
    pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    found = [
        StoredVersion(uri, each["VersionId"], each["LastModified"])
        for page in pages
        for each in page.get("Versions", [])
        if each["Key"] == key and not each["IsLatest"]
    ]
    return sorted(found, key=lambda each: each.modified, reverse=True)


def deleted(prefix_uri: str) -> list[str]:
    """URIs below a prefix whose newest version is the marker of a deletion; none where the bucket keeps no versions."""
    bucket, prefix = split(prefix_uri)
    pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return [
        f"s3://{bucket}/{each['Key']}"
        for page in pages
        for each in page.get("DeleteMarkers", [])
        if each["IsLatest"]
    ]


def get_version(version: StoredVersion) -> bytes:
    """The bytes of a version of an object."""
    bucket, key = split(version.uri)
    answer = client().get_object(Bucket=bucket, Key=key, VersionId=version.version_id)
    return answer["Body"].read()


def sizes(prefix_uri: str) -> dict[str, int]:
    """URIs below a prefix with their objects' bytes."""
    return {item.uri: item.bytes for item in objects(prefix_uri)}


def delete(uri: str) -> None:
    """Remove an object; one that is not there is no error."""
    bucket, key = split(uri)
    client().delete_object(Bucket=bucket, Key=key)


def upload(uri: str, path: str) -> None:
    """Copy a local file to S3 (multipart where it is large)."""
    bucket, key = split(uri)
    client().upload_file(path, bucket, key)


def copy(source_uri: str, target_uri: str) -> None:
    """Copy an object within S3."""
    source_bucket, source_key = split(source_uri)
    bucket, key = split(target_uri)
    client().copy({"Bucket": source_bucket, "Key": source_key}, bucket, key)
