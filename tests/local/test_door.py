"""No web page gets through a local server's door, by whatever way a browser has; every program does."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from local import airflow, door
from local.aws.server import BUCKET_HOST, PREFIXED
from local.saas import server as saas
from local.snowflake import server as snowflake
from local.supervisor import ServiceError
from tests.local.aws_server import bucket
from tests.support import Aws

PORT = 4566
OWN = f"127.0.0.1:{PORT}"
# What a browser sends for a page of another site, by what the page does. `HOST` is the server's own.
PAGES = {
    "fetch": {"Host": "HOST", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "an image": {"Host": "HOST", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "an image, in an old browser": {"Host": "HOST", "Referer": "http://evil.example/page"},
    "a link": {"Host": "HOST", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a form": {"Host": "HOST", "Origin": "http://evil.example", "Content-Type": "text/plain"},
    "a sandboxed frame or a file": {"Host": "HOST", "Origin": "null"},
    "a page of another port": {"Host": "HOST", "Origin": "http://127.0.0.1:3000"},
    "another port, no-cors": {"Host": "HOST", "Sec-Fetch-Site": "same-site"},
    "localhost is another site than 127.0.0.1": {"Host": "HOST", "Origin": "http://localhost:4566"},
    "https is another site": {"Host": "HOST", "Origin": "https://HOST"},
    "an origin that begins alike": {"Host": "HOST", "Origin": "http://HOST.evil.example"},
    "an audit of somebody's": {"Host": "HOST", "Referer": "https://audit.example.org.evil.example/hadoop/1/"},
    "a referrer that begins alike": {"Host": "HOST", "Referer": "http://HOST.evil.example/"},
    "a preflight": {"Host": "HOST", "Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"},
    "rebinding": {"Host": f"evil.example:{PORT}"},
    "rebinding, same origin": {"Host": f"evil.example:{PORT}", "Origin": f"http://evil.example:{PORT}"},
    "rebinding, a name that begins alike": {"Host": f"127.0.0.1.evil.example:{PORT}"},
    "rebinding, a name that ends alike": {"Host": f"notlocalhost:{PORT}"},
    "a trailing dot": {"Host": f"localhost.:{PORT}"},
    "another port": {"Host": "127.0.0.1:80"},
    "no port": {"Host": "127.0.0.1"},
    "all addresses": {"Host": f"0.0.0.0:{PORT}"},
    "IPv6": {"Host": f"[::1]:{PORT}"},
    "IPv4 in IPv6": {"Host": f"[::ffff:127.0.0.1]:{PORT}"},
    "a user's name": {"Host": f"127.0.0.1@evil.example:{PORT}"},
    "an empty host": {"Host": ""},
    "an MWAA name of somebody's": {"Host": f"api.evil.example:{PORT}"},
    "a bucket's name of somebody's": {"Host": f"lake.localhost.evil.example:{PORT}"},
}
PROGRAMS: dict[str, dict[str, str]] = {
    "a client": {"Host": OWN},
    "by name": {"Host": f"LocalHost:{PORT}"},
    "Spark, which audits itself": {
        "Host": OWN,
        "Referer": "https://audit.example.org/hadoop/1/op_get_file_status/0b7d-00000001/?op=op_get_file_status",
    },
    "an address that somebody typed": {"Host": OWN, "Sec-Fetch-Site": "none"},
    "a page of the server's own": {
        "Host": OWN,
        "Origin": f"http://{OWN}",
        "Sec-Fetch-Site": "same-origin",
        "Referer": f"http://{OWN}/dags",
    },
}


SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/eu-central-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}


def decide(headers: dict[str, str], names: str = door.NAMES) -> str | None:
    return door.refusal(lambda name: [headers[name]] if name in headers else [], PORT, names)


def sent(headers: dict[str, str], own: str) -> dict[str, str]:
    """The headers as a page sends them to a server at ``own``."""
    port = own.partition(":")[2]
    return {name: text.replace("HOST", own).replace(str(PORT), port) for name, text in headers.items()}


@pytest.mark.parametrize("how", PAGES)
@pytest.mark.parametrize("names", [door.NAMES, f"{door.NAMES}|{PREFIXED}|{BUCKET_HOST}"], ids=["all", "aws"])
def test_a_page_is_refused(how: str, names: str) -> None:
    assert decide(sent(PAGES[how], OWN), names) is not None


@pytest.mark.parametrize("how", PROGRAMS)
def test_a_program_passes(how: str) -> None:
    assert decide(PROGRAMS[how]) is None


def test_a_request_says_one_host() -> None:
    assert door.refusal(lambda name: [OWN, "evil.example"] if name == "Host" else [], PORT)
    assert door.refusal(lambda name: [], PORT)


def test_the_refusal_says_what_came_and_what_to_use() -> None:
    why = decide({"Host": "my-laptop.lan:4566"}) or ""
    assert "'my-laptop.lan:4566'" in why
    assert "127.0.0.1:4566" in why
    assert "'https://evil.example'" in (decide({"Host": OWN, "Origin": "https://evil.example"}) or "")


@pytest.mark.parametrize(
    "host", ["api.127.0.0.1", "123456789012.localhost", "lake.localhost", "my.lake.s3.localhost"]
)
def test_the_aws_has_names_of_its_own(host: str) -> None:
    assert decide({"Host": f"{host}:{PORT}"}, f"{door.NAMES}|{PREFIXED}|{BUCKET_HOST}") is None
    assert decide({"Host": f"{host}:{PORT}"}) is not None


# -- the servers themselves ----------------------------------------------------------------------------------


def ask(
    url: str, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, Any, bytes]:
    """One request with these headers and no others."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in (headers | {"Content-Length": str(len(body))}).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


@pytest.fixture(scope="module")
def doubles() -> Iterator[saas.Doubles]:
    started = saas.start(None)
    yield started
    started.stop()


def assert_closed(url: str, method: str, path: str) -> None:
    own = urlsplit(url).netloc
    for how, headers in PAGES.items():
        for verb in (method, "OPTIONS"):
            status, received, body = ask(url, verb, path, sent(headers, own), b"{}")
            assert status == 403, (how, verb, body)
            assert not [name for name in received if name.lower().startswith("access-control")], how


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/door/kept"), ("DELETE", "/door/kept"), ("POST", "/moto-api/reset"), ("POST", "/applications")],
)
def test_no_page_reaches_the_local_aws(aws: Aws, method: str, path: str) -> None:
    s3 = aws.client("s3")
    if method == "GET":
        bucket(aws, "door").put_object(Bucket="door", Key="kept", Body=b"data")
    assert_closed(aws.endpoint, method, path)
    assert s3.get_object(Bucket="door", Key="kept")["Body"].read() == b"data"


def test_moto_cannot_be_reset_by_anybody(aws: Aws) -> None:
    own = {"Host": urlsplit(aws.endpoint).netloc}
    assert ask(aws.endpoint, "POST", "/moto-api/reset", own)[0] == 404
    assert ask(aws.endpoint, "GET", "/moto-api/data.json", own)[0] == 404


def test_no_answer_invites_other_sites(aws: Aws) -> None:
    host = urlsplit(aws.endpoint).netloc
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        for method, path in (("GET", "/"), ("POST", "/"), ("OPTIONS", "/x/y"), ("GET", "/door/kept")):
            received = ask(aws.endpoint, method, path, headers)[1]
            assert not [name for name in received if name.lower().startswith("access-control")], (
                method,
                path,
            )


def test_a_bucket_in_the_host_is_the_bucket_in_the_path(aws: Aws) -> None:
    name, s3 = "in.the-host", bucket(aws, "in.the-host")
    s3.put_object(Bucket=name, Key="a/b c", Body=b"data")
    port = urlsplit(aws.endpoint).port
    for host in (f"{name}.localhost:{port}", f"{name}.s3.localhost:{port}"):
        status, _, body = ask(aws.endpoint, "GET", "/a/b%20c", {"Host": host} | SIGNED)
        assert (status, body) == (200, b"data")
        status, _, body = ask(aws.endpoint, "GET", "/?versioning", {"Host": host} | SIGNED)  # by moto itself
        assert (status, b"Versioning" in body) == (200, True)


def test_the_address_may_be_a_name(aws: Aws) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=aws.endpoint.replace("127.0.0.1", "localhost"),
        config=Config(s3={"addressing_style": "path"}),
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    assert client.list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("service", saas.SERVICES)
def test_no_page_reaches_the_sources(doubles: saas.Doubles, service: str) -> None:
    url = doubles.url(service)
    own = {"Host": urlsplit(url).netloc}
    assert ask(url, "GET", "/_admin/health", own)[0] == 200
    assert_closed(url, "POST", "/_admin/reset")
    assert_closed(url, "GET", "/_admin/state")


def test_no_page_reaches_the_local_snowflake(tmp_path: Path) -> None:
    application = snowflake.application(tmp_path)

    def status(headers: dict[str, str]) -> int:
        sent_back: list[Any] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": "/_admin/health",
            "raw_path": b"/_admin/health",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", PORT),
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent_back.append(message)

        asyncio.run(application(scope, receive, send))  # type: ignore[arg-type]
        return int(sent_back[0]["status"])

    assert {how: status(headers) for how, headers in PROGRAMS.items()} == dict.fromkeys(PROGRAMS, 200)
    assert {how: status(sent(headers, OWN)) for how, headers in PAGES.items()} == dict.fromkeys(PAGES, 403)


def test_an_airflow_without_its_door_does_not_stay_up(tmp_path: Path) -> None:
    class Open(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Open)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ServiceError, match="answers web pages of other sites"):
        airflow._check_door(server.server_port, tmp_path / "log")
    server.shutdown()
    server.server_close()
