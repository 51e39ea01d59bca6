"""S3 in good weather (the local AWS) and in bad: each answer comes in time, in words, with what to do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dq_dashboard import storage
from dq_dashboard.storage import S3, in_time, side_by_side
from lakehouse.errors import ConfigError, CredentialsError, LakehouseError, SourceUnavailable

#: Far above what a reader waits, so that a busy machine fails nothing; boto3 by itself waits for minutes.
IN_TIME = 20.0


@pytest.fixture
def bucket(lake: str) -> str:
    """A fresh bucket of the local AWS."""
    return lake.removeprefix("s3://")


def put(aws: Any, bucket: str, key: str, body: bytes) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def test_the_head_of_an_object_and_its_whole_size(aws: Any, bucket: str) -> None:
    put(aws, bucket, "reports/a.json", b"0123456789")
    put(aws, bucket, "reports/empty.json", b"")
    s3 = S3()
    head, whole, empty = (
        s3.head(bucket, key, size)
        for key, size in (("reports/a.json", 4), ("reports/a.json", 10), ("reports/empty.json", 10))
    )
    assert head is not None
    assert (head.body, head.size, head.whole) == (b"0123", 10, False)
    assert whole is not None
    assert (whole.body, whole.whole) == (b"0123456789", True)
    assert empty is not None
    assert (empty.body, empty.size, empty.whole) == (b"", 0, True)
    assert s3.head(bucket, "reports/none.json", 10) is None


def test_listings_begin_behind_a_key_and_go_on_over_pages(aws: Any, bucket: str) -> None:
    keys = [f"reports/history/2026-11-{day:02}/r{day}.json" for day in range(1, 6)]
    for key in keys:
        put(aws, bucket, key, b"{}")
    s3 = S3(storage._client())
    assert [one.key for one in s3.keys(bucket, "reports/history/")] == keys
    assert [one.key for one in s3.keys(bucket, "reports/history/", "reports/history/2026-11-04")] == keys[3:]
    assert s3.folders(bucket, "reports/history/") == [f"2026-11-{day:02}" for day in range(1, 6)]
    assert s3.keys(bucket, "none/") == []
    assert s3.folders(bucket, "none/") == []


def test_a_bucket_that_is_not_there_is_said(lake: str) -> None:
    for call in calls(S3(), "lake-that-nobody-made"):
        with pytest.raises(ConfigError, match="no such bucket") as caught:
            call()
        assert "S3_DQ_REPORTS_BUCKET" in caught.value.hint


def test_a_name_that_no_bucket_can_have_is_said(lake: str) -> None:
    with pytest.raises(ConfigError, match="no such bucket"):
        S3().keys("No Bucket!", "reports/")


def calls(s3: S3, bucket: str = "b") -> list[Callable[[], Any]]:
    return [lambda: s3.keys(bucket, "reports/"), lambda: s3.head(bucket, "reports/a.json", 10)]


@contextmanager
def answering(status: int, body: bytes, wait: float = 0.0) -> Iterator[str]:
    """An S3 that gives one answer to everything, a kilobyte at a time with a pause where ``wait`` is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"e"')
            self.send_header("Last-Modified", "Sun, 29 Nov 2026 06:00:00 GMT")
            self.end_headers()
            try:
                for place in range(0, len(body), 1000):
                    self.wfile.write(body[place : place + 1000])
                    time.sleep(wait)
            except OSError:
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], S3]:
    """An S3 at an endpoint."""

    def made(endpoint: str) -> S3:
        for name, value in (
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_REGION", "eu-central-1"),
        ):
            monkeypatch.setenv(name, value)
        return S3()

    return made


@pytest.mark.parametrize(
    ("status", "code", "error", "told"),
    [
        (403, "AccessDenied", CredentialsError, "AccessDenied"),
        (403, "InvalidAccessKeyId", CredentialsError, "InvalidAccessKeyId"),
        (400, "ExpiredToken", CredentialsError, "ExpiredToken"),
        (503, "SlowDown", SourceUnavailable, "SlowDown"),
        (500, "InternalError", SourceUnavailable, "InternalError"),
        (301, "PermanentRedirect", SourceUnavailable, "PermanentRedirect"),
        (400, "[x](javascript:1)", SourceUnavailable, "an error without a name"),
    ],
)
def test_each_refusal_is_said_with_what_to_do(
    at: Callable[[str], S3], status: int, code: str, error: type[LakehouseError], told: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>secret words</Message></Error>".encode()
    with answering(status, body) as endpoint:
        begun = time.monotonic()
        for call in calls(at(endpoint)):
            with pytest.raises(error, match=told) as caught:
                call()
            assert caught.value.hint
            assert "secret words" not in caught.value.message
    assert time.monotonic() - begun < 2 * IN_TIME


def test_nobody_at_the_address_is_said_in_time(at: Callable[[str], S3]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        s3 = at(f"http://127.0.0.1:{unused.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable, match="no answer within 2 s"):
            s3.keys("b", "reports/")
    assert time.monotonic() - begun < IN_TIME


def test_an_s3_that_hangs_or_drips_is_given_up_in_time(at: Callable[[str], S3]) -> None:
    """All at once: one that takes the connection and says nothing, and one that gives a kilobyte now and then."""
    with socket.socket() as silent, answering(200, b"x" * 100_000, wait=0.05) as dripping:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hanging = at(f"http://127.0.0.1:{silent.getsockname()[1]}")
        slow = at(dripping)
        begun = time.monotonic()
        found = in_time(
            {
                "hangs": lambda: hanging.keys("b", "reports/"),
                "drips": lambda: slow.head("b", "k", 100_000),
                "answers": lambda: "here",
            }
        )
        took = time.monotonic() - begun
    assert isinstance(found["hangs"], SourceUnavailable)
    assert isinstance(found["drips"], SourceUnavailable)
    assert found["answers"] == "here"
    assert took < IN_TIME


def test_no_credentials_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        S3().keys("b", "reports/")


def test_a_profile_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    found = in_time({"runner": lambda: S3().keys("b", "reports/")})
    assert isinstance(found["runner"], CredentialsError)


def test_reads_side_by_side_keep_their_order() -> None:
    assert side_by_side([lambda number=number: number for number in range(50)]) == list(range(50))
