"""The page's only way to S3: listings and heads of objects, with an answer or an error in about two seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ParamValidationError,
    ResponseStreamingError,
)

from lakehouse.errors import ConfigError, CredentialsError, LakehouseError, SourceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

#: After so many seconds the page says that S3 does not answer.
DEADLINE = 2.0
_CHUNK = 1 << 14
_DENIED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_GONE = {"NoSuchKey", "404", "NotFound"}


@dataclass(frozen=True)
class Stored:
    """An object as a listing shows it."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Head:
    """The first bytes of an object. ``size`` is that of the whole object."""

    body: bytes
    size: int

    @property
    def whole(self) -> bool:
        return len(self.body) >= self.size


class Storage(Protocol):
    """What the page needs of S3. Each call raises a LakehouseError with what to do next."""

    def head(self, bucket: str, key: str, size: int) -> Head | None:
        """At most the first ``size`` bytes; None where there is no such object."""

    def keys(self, bucket: str, prefix: str, after: str = "") -> list[Stored]:
        """Objects below a prefix behind the key ``after``, in the order of their keys."""

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """Names of the folders right below a prefix."""


class S3:
    """Storage on S3; endpoint, Region and credentials come from the environment as boto3 reads them."""

    def __init__(self, client: S3Client | None = None) -> None:
        self._client = client or _client()

    def head(self, bucket: str, key: str, size: int) -> Head | None:
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{size - 1}")
            body = _read(answer["Body"], f"s3://{bucket}/{key}")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _GONE:
                return None
            if code in {"InvalidRange", "416"}:  # an object without a byte has no first one
                return Head(b"", 0)
            raise _said(error, bucket) from error
        except BotoCoreError as error:
            raise _said(error, bucket) from error
        whole = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
        return Head(body, whole)

    def keys(self, bucket: str, prefix: str, after: str = "") -> list[Stored]:
        found = self._pages(bucket, Prefix=prefix, **({"StartAfter": after} if after else {}))
        return [
            Stored(one["Key"], one["ETag"], one["Size"]) for page in found for one in page.get("Contents", [])
        ]

    def folders(self, bucket: str, prefix: str) -> list[str]:
        found = self._pages(bucket, Prefix=prefix, Delimiter="/")
        return [
            one["Prefix"][len(prefix) : -1]
            for page in found
            for one in page.get("CommonPrefixes", [])
            if one.get("Prefix")
        ]

    def _pages(self, bucket: str, **request: Any) -> list[Any]:
        try:
            return list(self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, **request))
        except (ClientError, BotoCoreError) as error:
            raise _said(error, bucket) from error


def _client() -> S3Client:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    config = Config(
        connect_timeout=1,
        read_timeout=DEADLINE,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=32,
    )
    return boto3.Session().client("s3", region_name=region, config=config)


def _read(body: Any, uri: str) -> bytes:
    """A body that comes in time: a read timeout alone lets one drip for hours."""
    end, parts = time.monotonic() + DEADLINE, []
    for part in body.iter_chunks(_CHUNK):
        parts.append(part)
        if time.monotonic() > end:
            raise _late(uri)
    return b"".join(parts)


def _late(what: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{what}: received no answer within {DEADLINE:.0f} s",
        hint="The page tries again by itself; reload it in a minute. If that does not help, check the network path "
        "to S3 (VPC endpoint, security group) and AWS Health.",
    )


def _said(error: ClientError | BotoCoreError, bucket: str) -> LakehouseError:
    """What S3 or the way to it said, in our words: its own may quote anything."""
    where = f"s3://{bucket}"
    if isinstance(error, ClientError):
        return _answered(str(error.response.get("Error", {}).get("Code", "")), where)
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | ResponseStreamingError):
        return _late(where)
    if isinstance(error, ParamValidationError):
        return _no_bucket(where)
    return CredentialsError(
        f"{where}: found no AWS credentials that can be used ({type(error).__name__})",
        hint="In the container the task role gives them; on a laptop sign in, or set AWS_PROFILE.",
    )


def _answered(code: str, where: str) -> LakehouseError:
    if code in _DENIED:
        return CredentialsError(
            f"{where}: S3 refused the read ({code})",
            hint="The role dq_dashboard has to read reports/ of the reports bucket and gold/quality/ of the lake "
            "(terraform/iam.tf), and to use the key of both.",
        )
    if code in {"NoSuchBucket", "InvalidBucketName"}:
        return _no_bucket(where)
    return SourceUnavailable(
        f"{where}: S3 answered {code if code.isalnum() else 'an error without a name'}",
        hint="The page tries again by itself; reload it in a minute. SlowDown and ServiceUnavailable pass by "
        "themselves; for others see Amazon S3's list of error responses.",
    )


def _no_bucket(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: there is no such bucket",
        hint="Set S3_DQ_REPORTS_BUCKET and LAKE_BUCKET to buckets, and start the dashboard again.",
    )


#: The calls of a page, and below them those for many small objects: a pool that waits for itself would stand still.
_outer = ThreadPoolExecutor(8, thread_name_prefix="reading")
_inner = ThreadPoolExecutor(24, thread_name_prefix="objects")


def side_by_side(calls: list[Callable[[], T]]) -> list[T]:
    """Results of small reads, made at once, in the order given."""
    return [future.result() for future in [_inner.submit(call) for call in calls]]


def in_time(
    calls: dict[str, Callable[[], T]], seconds: float = DEADLINE + 0.3
) -> dict[str, T | LakehouseError]:
    """Results of reads made at once, by name; an error in place of a result where one failed or takes too long.

    The time limits of a connection do not hold for all of it: a name that does not resolve hangs for longer.
    """
    futures: dict[str, Future[T]] = {name: _outer.submit(call) for name, call in calls.items()}
    wait(futures.values(), timeout=seconds)
    return {name: _outcome(futures[name], name) for name in futures}


def _outcome(future: Future[Any], name: str) -> Any:
    if not future.done():
        return _late(name)
    try:
        return future.result()
    except LakehouseError as error:
        return error
    except BotoCoreError as error:  # of a client that could not be made
        return _said(error, name)
