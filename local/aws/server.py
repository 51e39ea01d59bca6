"""The process of the local AWS: `python -m local.aws.server --state DIR --port N`."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local import door
from local.supervisor import ServiceSpec

REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    # deltalake and Polars speak plain HTTP only where they are told to.
    "AWS_ALLOW_HTTP": "true",
}
HEALTH_PATH = "/_local/health"
# Terraform and the SDKs put a host prefix before an endpoint for MWAA (api.) and S3 Control (the account).
PREFIXED = r"(?:api|\d{12})\.(?:127\.0\.0\.1|localhost)"
# S3's virtual-hosted style. No name server gives out names below "localhost" (RFC 6761), so none can be rebound.
BUCKET_HOST = r"([a-z0-9][a-z0-9.-]+?)(?:\.s3)?\.localhost"
REPO = Path(__file__).resolve().parents[2]
EXPIRY_SECONDS = 3600


def spec(state: Path, ports: dict[str, int], env: dict[str, str]) -> ServiceSpec:
    """How the supervisor starts this process."""
    endpoint = f"http://127.0.0.1:{ports['aws']}"
    argv = [sys.executable, "-m", "local.aws.server", "--state", str(state), "--port", str(ports["aws"])]

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{endpoint}{HEALTH_PATH}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return ServiceSpec("aws", argv, env, ready, {"AWS_ENDPOINT_URL": endpoint, **CREDENTIALS})


class BucketObjects:
    """What EMR and Athena need of S3, straight from the store in this process."""

    def __init__(self, account: str):
        self.account = account

    def _backend(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends[self.account]["aws"]

    @staticmethod
    def split(uri: str) -> tuple[str, str]:
        bucket, _, key = uri.split("://", 1)[1].partition("/")
        return bucket, key

    def read(self, uri: str) -> bytes:
        from moto.s3.exceptions import S3ClientError

        from local.aws.emr_process import LocaliseError

        bucket, key = self.split(uri)
        try:
            found = self._backend().get_object(bucket, key)
        except S3ClientError as e:
            raise LocaliseError(f"{uri}: {e.message}") from e
        if found is None:
            raise LocaliseError(f"{uri} does not exist")
        data: bytes = found.value
        return data

    def write(self, uri: str, data: bytes) -> None:
        from moto.s3.exceptions import S3ClientError

        from local.aws.emr_process import LocaliseError
        from local.aws.s3_store import store

        bucket, key = self.split(uri)
        try:
            with store().key_lock(bucket, key), store().unit_of_work():
                self._backend().put_object(bucket, key, data)
        except S3ClientError as e:
            raise LocaliseError(f"{uri}: {e.message}") from e


def stack_environment(state: Path, endpoint: str) -> Callable[[], dict[str, str]]:
    """The variables the stack exports, read anew for every job: services may come up after this one."""

    def read() -> dict[str, str]:
        found = dict(CREDENTIALS)
        file = state / "stack.env"
        if file.exists():
            for line in file.read_text().splitlines():
                name, equals, value = line.partition("=")
                if equals and not name.startswith("#"):
                    found[name] = value
        found["AWS_ENDPOINT_URL"] = endpoint
        found.pop("AWS_DEFAULT_REGION", None)  # a job on AWS has the other name alone
        return found

    return read


def _path_style(environ: dict[str, Any]) -> None:
    """Write a bucket that is named in the host into the path, where the rest of this server looks for it."""
    host = environ["HTTP_HOST"].partition(":")[0].lower()
    found = None if re.fullmatch(PREFIXED, host) else re.fullmatch(BUCKET_HOST, host)
    if found is None:
        return
    for name in ("PATH_INFO", "REQUEST_URI", "RAW_URI"):
        environ[name] = f"/{found[1]}{environ[name]}"


def serve(state: Path, port: int, environ: Mapping[str, str] = os.environ) -> None:
    """Serve until SIGTERM or SIGINT."""
    os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "false")
    os.environ.setdefault("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"

    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.core.utils import utcnow
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from local.aws import athena, emr, emr_api, glue, http, mwaa, patches, s3_http, s3_store
    from local.aws import state as kept

    state.mkdir(parents=True, exist_ok=True)
    disk = s3_store.install(state / "s3")
    patches.install()
    glue.install()
    count = disk.load()
    fast = s3_http.FastS3(disk)
    keeper = kept.Keeper(state / "aws")
    keeper.load()
    moto = kept.keeping(DomainDispatcherApplication(create_backend_app), keeper)

    def application(environ_: dict[str, Any], start_response: Any) -> Any:
        path = environ_.get("PATH_INFO", "")
        if path == HEALTH_PATH:
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
            return [b"{}"]
        if path.startswith("/moto-api"):  # moto's remote control, which forgets every table at one word
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        _path_style(environ_)
        answer = fast(environ_, start_response)
        return moto(environ_, start_response) if answer is None else answer

    server = http.Server(
        port,
        door.wsgi(mwaa.before(mwaa.Mwaa(REGION), application), f"{door.NAMES}|{PREFIXED}|{BUCKET_HOST}"),
    )
    endpoint = f"http://127.0.0.1:{server.port}"
    jars = Path(environ.get("LAKEHOUSE_JARS_DIR", str(REPO / ".local" / "jars")))
    jobs = emr.EmrServerless(
        state / "emr",
        BucketObjects(DEFAULT_ACCOUNT_ID),
        jars,
        stack_environment(state, endpoint),
        lambda: endpoint,
        concurrency=int(environ.get("LAKEHOUSE_EMR_CONCURRENCY", "2")),
        minute_seconds=float(environ.get("LAKEHOUSE_EMR_MINUTE_SECONDS", "60")),
    )
    emr_api.install(jobs)
    queries = athena.Athena(
        state / "athena",
        BucketObjects(DEFAULT_ACCOUNT_ID),
        lambda: dict(os.environ) | {"PYTHONPATH": str(REPO)} | stack_environment(state, endpoint)(),
    )
    athena.install(queries)
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    print(json.dumps({"endpoint": endpoint, "objects": count}), flush=True)
    disk.expire(utcnow())
    while not stopped.wait(EXPIRY_SECONDS):
        disk.expire(utcnow())
    jobs.shutdown()
    queries.shutdown()
    server.shutdown()
    keeper.save_all()
    disk.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    serve(args.state, args.port)


if __name__ == "__main__":
    main()
