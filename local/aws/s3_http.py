"""The S3 calls a Spark job makes by the thousand, answered without moto's general request machinery.

moto takes 3 to 9 ms for a small object request and half a second for a page of a listing, most of it in routing and
in generic serialisation; a Delta commit is dozens of such calls. This module answers the plain ones (get, head, put,
delete, list, delete many) from the same in-memory model and the same store, and hands everything it does not know
exactly (versions, policies, ACLs, tags, locks, multipart, presigned URLs …) to moto by returning None.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY
from moto.core.utils import iso_8601_datetime_without_milliseconds_s3, rfc_1123_datetime
from moto.s3 import models as s3_models
from moto.s3.utils import ARCHIVE_STORAGE_CLASSES, metadata_from_headers

from local.aws.s3_store import CONFLICT_CODE, CONFLICT_MESSAGE, Conflict, DiskKey, Store

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Answer = tuple[str, list[tuple[str, str]], Iterable[bytes]]

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
CHUNK = 1 << 20
WHOLE = 8 << 20
MAX_KEYS = 1000
# A bucket that kept versions once; what a deletion does there is moto's.
SUSPENDED = "Suspended"
# Harmless in any request: the SDKs name the operation.
IGNORED_PARAMETERS = {"x-id"}
LIST_PARAMETERS = {
    "list-type",
    "prefix",
    "delimiter",
    "max-keys",
    "start-after",
    "continuation-token",
    "encoding-type",
    "fetch-owner",
    "marker",
}
LISTING = {"list-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "continuation-token"}
# Requests with one of these need moto.
SPECIAL_HEADERS = (
    "HTTP_ORIGIN",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_X_AMZ_COPY_SOURCE",
    "HTTP_X_AMZ_TAGGING",
    "HTTP_X_AMZ_ACL",
    "HTTP_X_AMZ_OBJECT_LOCK_MODE",
    "HTTP_X_AMZ_OBJECT_LOCK_LEGAL_HOLD",
    "HTTP_X_AMZ_OBJECT_LOCK_RETAIN_UNTIL_DATE",
    "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION",
    "HTTP_X_AMZ_GRANT_READ",
    "HTTP_X_AMZ_GRANT_FULL_CONTROL",
    "HTTP_X_AMZ_GRANT_READ_ACP",
    "HTTP_X_AMZ_GRANT_WRITE_ACP",
    "HTTP_X_AMZ_WEBSITE_REDIRECT_LOCATION",
    "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_CUSTOMER_ALGORITHM",
)
CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}
REASONS = {
    200: "200 OK",
    204: "204 No Content",
    206: "206 Partial Content",
    304: "304 Not Modified",
    400: "400 Bad Request",
    404: "404 Not Found",
    409: "409 Conflict",
    412: "412 Precondition Failed",
    416: "416 Requested Range Not Satisfiable",
}


class Refused(Exception):
    """An S3 error to be answered."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@contextmanager
def _no_conflict() -> Iterator[None]:
    try:
        yield
    except Conflict:
        raise Refused(409, CONFLICT_CODE, CONFLICT_MESSAGE) from None


class FastS3:
    """The fast path; calling it answers the request or returns None."""

    def __init__(self, store: Store):
        self.store = store

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes] | None:
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if "/s3/aws4_request" not in authorization or any(name in environ for name in SPECIAL_HEADERS):
            return None
        raw = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
        path, _, query = raw.partition("?")
        bucket_name, slash, raw_key = path.lstrip("/").partition("/")
        bucket = s3_models.s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets.get(bucket_name)
        if bucket is None or not _plain(bucket):
            return None
        parameters = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        for name in IGNORED_PARAMETERS:
            parameters.pop(name, None)
        key = unquote(raw_key) if slash else ""
        try:
            answer = self._answer(environ, bucket, key, parameters)
        except Refused as refusal:
            answer = _error(refusal, bucket_name, key, environ["REQUEST_METHOD"] == "HEAD")
        if answer is None:
            return None
        status, headers, body = answer
        start_response(status, headers)
        return body

    def _answer(
        self, environ: dict[str, Any], bucket: Any, key: str, parameters: dict[str, str]
    ) -> Answer | None:
        method = environ["REQUEST_METHOD"]
        if key:
            if parameters:
                return None
            if method in ("GET", "HEAD"):
                return self._get(environ, bucket, key, head=method == "HEAD")
            if method == "PUT":
                return self._put(environ, bucket, key)
            if method == "DELETE" and "HTTP_IF_MATCH" not in environ:
                return self._delete(bucket, key)
            return None
        if method == "GET" and parameters.keys() <= LIST_PARAMETERS and parameters.keys() & LISTING:
            return _list(bucket, parameters)
        if method == "POST" and parameters.keys() == {"delete"}:
            return self._delete_many(environ, bucket)
        return None

    # -- reading -------------------------------------------------------------------------------------------

    def _get(self, environ: dict[str, Any], bucket: Any, name: str, head: bool) -> Answer | None:
        key = bucket.keys.get(name)
        if key is None or type(key) is s3_models.FakeDeleteMarker:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        if (
            type(key) is not DiskKey
            or key.storage_class in ARCHIVE_STORAGE_CLASSES
            or key._expiry
            or key.encryption
            or key.website_redirect_location
            or key.lock_mode
            or key.lock_legal_status
        ):
            return None
        if_match, if_none_match = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_NONE_MATCH")
        if if_match and if_match.strip('"') not in ("*", key._etag):
            raise Refused(
                412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
            )
        headers = [
            ("ETag", key.etag),
            ("Last-Modified", rfc_1123_datetime(key.last_modified)),
            ("Accept-Ranges", "bytes"),
        ]
        if key.version_id != "null":
            headers.append(("x-amz-version-id", key.version_id))
        if if_none_match and if_none_match.strip('"') in ("*", key._etag):
            return REASONS[304], headers, [b""]
        headers += [(_header_name(k), v) for k, v in key.metadata.items()]
        size = key.contentsize
        wanted = _range(environ.get("HTTP_RANGE"), size)
        if wanted is None:
            start, length, status = 0, size, 200
            if (
                environ.get("HTTP_X_AMZ_CHECKSUM_MODE") == "ENABLED"
                and key.checksum_algorithm
                and key.checksum_value
            ):
                value = key.checksum_value
                if key.checksum_type == "COMPOSITE":
                    value = f"{value}-{key.checksum_parts}"
                headers.append((f"x-amz-checksum-{key.checksum_algorithm.lower()}", value))
                if key.checksum_type:
                    headers.append(("x-amz-checksum-type", key.checksum_type))
        else:
            start, length, status = wanted[0], wanted[1] - wanted[0] + 1, 206
            headers.append(("Content-Range", f"bytes {wanted[0]}-{wanted[1]}/{size}"))
        headers.append(("Content-Length", str(length)))
        return REASONS[status], headers, [b""] if head else self._bytes(key.blob, start, length)

    def _bytes(self, blob: str, start: int, length: int) -> Iterable[bytes]:
        # Opened before the answer begins: a file removed later stays readable.
        fd = os.open(self.store.path(blob), os.O_RDONLY)
        if length > WHOLE:
            return _stream(fd, start, length)
        try:
            return [os.pread(fd, length, start)]
        finally:
            os.close(fd)

    # -- writing -------------------------------------------------------------------------------------------

    def _put(self, environ: dict[str, Any], bucket: Any, name: str) -> Answer | None:
        if bucket.encryption or environ.get("HTTP_X_AMZ_STORAGE_CLASS", "STANDARD") != "STANDARD":
            return None
        data, trailers = read_body(environ)
        algorithm, checksum = _verify(environ, data, trailers)
        if_match, if_none_match = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_NONE_MATCH")
        backend = s3_models.s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        conditional, agent = bool(if_match or if_none_match), environ.get("HTTP_USER_AGENT", "")
        with (
            _no_conflict(),
            self.store.key_write(bucket.name, name, conditional=conditional, agent=agent),
            self.store.unit_of_work(),
        ):
            current = bucket.keys.get(name)
            there = type(current) is DiskKey
            if if_none_match and there and if_none_match.strip('"') in ("*", current._etag):
                raise Refused(
                    412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
                )
            if if_match and not there:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.")
            if if_match and if_match.strip('"') not in ("*", current._etag):
                raise Refused(
                    412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
                )
            key = backend.put_object(
                bucket.name, name, data, checksum_value=checksum, disable_notification=True
            )
            key.set_metadata(metadata_from_headers(_headers(environ)))
            key.set_acl(bucket.acl)
            if algorithm:
                key.checksum_algorithm = algorithm.upper()
            backend.tagger.delete_all_tags_for_resource(key.arn)
        headers = [("ETag", key.etag), ("Content-Length", "0")]
        if bucket.is_versioned:
            headers.append(("x-amz-version-id", key.version_id))
        if algorithm and checksum:
            headers.append((f"x-amz-checksum-{algorithm}", checksum))
        return REASONS[200], headers, [b""]

    def _delete(self, bucket: Any, name: str) -> Answer | None:
        if bucket.versioning_status == SUSPENDED:
            return None
        with self.store.key_lock(bucket.name, name), self.store.unit_of_work():
            marker = _remove(bucket, name)
        headers = [("x-amz-version-id", marker), ("x-amz-delete-marker", "true")] if marker else []
        return REASONS[204], headers, [b""]

    def _delete_many(self, environ: dict[str, Any], bucket: Any) -> Answer | None:
        if bucket.versioning_status == SUSPENDED:
            return None
        data, trailers = read_body(environ)
        _verify(environ, data, trailers)
        # moto has to be able to read it again, should this not be for us
        environ["wsgi.input"] = io.BytesIO(data)
        environ["CONTENT_LENGTH"] = str(len(data))
        try:
            root = ElementTree.fromstring(data)
        except ElementTree.ParseError as e:
            raise Refused(400, "MalformedXML", "The XML you provided was not well-formed") from e
        names, quiet = [], False
        for item in root:
            tag = item.tag.rpartition("}")[2]
            if tag == "Quiet":
                quiet = (item.text or "").strip() == "true"
            elif tag == "Object":
                fields = {child.tag.rpartition("}")[2]: child.text or "" for child in item}
                if fields.keys() != {"Key"}:
                    return None
                names.append(fields["Key"])
        if not 0 < len(names) <= MAX_KEYS:
            raise Refused(400, "MalformedXML", "The XML you provided was not well-formed")
        told = []
        with self.store.unit_of_work():
            for name in names:
                with self.store.key_lock(bucket.name, name):
                    told.append(_deleted(name, _remove(bucket, name)))
        return _xml(f'<DeleteResult xmlns="{XMLNS}">{"" if quiet else "".join(told)}</DeleteResult>')


def _remove(bucket: Any, name: str) -> str | None:
    """Delete the object; where the bucket keeps versions, the id of the marker that lies above it now."""
    if name not in bucket.keys:
        return None
    if not bucket.is_versioned:
        bucket.keys.pop(name)
        return None
    marker = s3_models.FakeDeleteMarker(key=bucket.keys[name])
    bucket.keys[name] = marker
    return marker.version_id


def _deleted(name: str, marker: str | None) -> str:
    """One entry of the answer to a deletion of many."""
    version = (
        f"<DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId>"
        if marker
        else ""
    )
    return f"<Deleted><Key>{escape(name)}</Key>{version}</Deleted>"


def _plain(bucket: Any) -> bool:
    """Whether nothing about the bucket needs moto's checks and side effects."""
    return (
        type(bucket) is s3_models.FakeBucket
        and bucket.policy is None
        and not bucket.logging
        and bucket.notification_configuration is None
        and not bucket.object_lock_enabled
    )


def read_body(environ: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The object's bytes and the trailing headers, the SDKs' chunked signing taken off."""
    stream = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    if length:
        data = stream.read(int(length)) if int(length) else b""
        if len(data) != int(length):
            raise Refused(
                400, "IncompleteBody", "You did not provide the number of bytes specified by Content-Length"
            )
    elif environ.get("wsgi.input_terminated"):
        data = stream.read()
    else:
        data = b""
    if environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-"):
        return decode_chunks(data)
    return data, {}


def decode_chunks(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Undo aws-chunked: `<hex size>[;chunk-signature=…]\\r\\n<bytes>\\r\\n` … `0\\r\\n` and trailing headers."""
    parts: list[bytes | memoryview] = []
    view = memoryview(data)
    at = 0
    while at < len(data):
        end = data.find(b"\r\n", at)
        if end < 0:
            raise Refused(400, "IncompleteBody", "The chunked body ends within a chunk header")
        size = int(data[at:end].split(b";", 1)[0], 16)
        at = end + 2
        if size == 0:
            break
        if at + size > len(data):
            raise Refused(400, "IncompleteBody", "The chunked body ends within a chunk")
        parts.append(view[at : at + size])
        at += size + 2
    trailers = {}
    for line in data[at:].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            trailers[name.decode().strip().lower()] = value.decode().strip()
    return b"".join(parts), trailers


def _verify(environ: dict[str, Any], data: bytes, trailers: dict[str, str]) -> tuple[str | None, str | None]:
    """Check the body against what the client says of it, as S3 does; the checksum's name and value, if there is one."""
    md5 = environ.get("HTTP_CONTENT_MD5")
    if md5 and base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode() != md5:
        raise Refused(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    given = {
        k[len("HTTP_X_AMZ_CHECKSUM_") :].lower(): v
        for k, v in environ.items()
        if k.startswith("HTTP_X_AMZ_CHECKSUM_")
    }
    given |= {
        k.removeprefix("x-amz-checksum-"): v for k, v in trailers.items() if k.startswith("x-amz-checksum-")
    }
    for algorithm in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256"):
        value = given.get(algorithm)
        if value:
            compute = CHECKSUMS.get(algorithm)
            if compute is not None and base64.b64encode(compute(data)).decode() != value:
                raise Refused(
                    400,
                    "BadDigest",
                    f"The {algorithm.upper()} you specified did not match the calculated checksum.",
                )
            return algorithm, value
    return None, None


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    spelt = environ.get(PRESERVED_HEADER_NAMES_ENVIRON_KEY) or {}
    headers = {
        (spelt.get(k) or k[5:].replace("_", "-")).lower(): v
        for k, v in environ.items()
        if k.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["Content-Type"] = environ["CONTENT_TYPE"]
    return headers


def _header_name(name: str) -> str:
    return name if name.startswith("x-amz") else "-".join(part.capitalize() for part in name.split("-"))


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range, None where the whole object is meant."""
    if not header or not header.startswith("bytes=") or "," in header:
        return None
    first, dash, last = header[len("bytes=") :].partition("-")
    if not dash or not (first or last) or not (first + last).isdigit():
        return None
    if not first:
        if int(last) == 0:
            raise Refused(416, "InvalidRange", "The requested range is not satisfiable")
        return (max(0, size - int(last)), size - 1) if size else None
    start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if start >= size:
        raise Refused(416, "InvalidRange", "The requested range is not satisfiable")
    return (start, end) if start <= end else None


def _stream(fd: int, start: int, length: int) -> Iterator[bytes]:
    try:
        while length > 0:
            data = os.pread(fd, min(CHUNK, length), start)
            if not data:
                return
            start += len(data)
            length -= len(data)
            yield data
    finally:
        os.close(fd)


def _list(bucket: Any, parameters: dict[str, str]) -> Answer:
    second = parameters.get("list-type") == "2"
    prefix, delimiter = parameters.get("prefix", ""), parameters.get("delimiter") or None
    limit = min(int(parameters.get("max-keys") or MAX_KEYS), MAX_KEYS)
    token = parameters.get("continuation-token")
    try:
        after = (
            bytes.fromhex(token).decode()
            if token
            else parameters.get("start-after" if second else "marker", "")
        )
    except ValueError as e:
        raise Refused(400, "InvalidArgument", "The continuation token provided is incorrect") from e
    found, more, last = bucket.keys.page(prefix, delimiter, after, limit)
    encode = quote if parameters.get("encoding-type") == "url" else _identity
    owner = second is False or parameters.get("fetch-owner") == "true"
    contents, folders = [], []
    for item in found:
        if isinstance(item, str):
            folders.append(f"<CommonPrefixes><Prefix>{escape(encode(item))}</Prefix></CommonPrefixes>")
            continue
        contents.append(
            f"<Contents><Key>{escape(encode(item.name))}</Key>"
            f"<LastModified>{iso_8601_datetime_without_milliseconds_s3(item.last_modified)}</LastModified>"
            f"<ETag>&quot;{item._etag}&quot;</ETag><Size>{item.contentsize}</Size>"
            f"<StorageClass>{item.storage_class}</StorageClass>"
            + (f"<Owner><ID>{s3_models.OWNER}</ID><DisplayName>local</DisplayName></Owner>" if owner else "")
            + "</Contents>"
        )
    tail = "".join(contents) + "".join(folders)
    head = (
        f"<Name>{bucket.name}</Name><Prefix>{escape(encode(prefix))}</Prefix><MaxKeys>{limit}</MaxKeys>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    )
    if delimiter:
        head += f"<Delimiter>{escape(encode(delimiter))}</Delimiter>"
    if encode is quote:
        head += "<EncodingType>url</EncodingType>"
    if second:
        head += f"<KeyCount>{len(found)}</KeyCount>"
        if token:
            head += f"<ContinuationToken>{token}</ContinuationToken>"
        if parameters.get("start-after"):
            head += f"<StartAfter>{escape(encode(parameters['start-after']))}</StartAfter>"
        if more and last:
            head += f"<NextContinuationToken>{last.encode().hex()}</NextContinuationToken>"
    else:
        head += f"<Marker>{escape(encode(parameters.get('marker', '')))}</Marker>"
        if more and last:
            head += f"<NextMarker>{escape(encode(last))}</NextMarker>"
    return _xml(f'<ListBucketResult xmlns="{XMLNS}">{head}{tail}</ListBucketResult>')


def _identity(text: str) -> str:
    return text


def _xml(text: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return REASONS[200], [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], [body]


def _error(refusal: Refused, bucket: str, key: str, head: bool) -> Answer:
    body = (
        b""
        if head
        else (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
            f"<Key>{escape(key)}</Key><BucketName>{escape(bucket)}</BucketName><RequestId>local</RequestId></Error>"
        ).encode()
    )
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    return REASONS[refusal.status], headers, [body]
