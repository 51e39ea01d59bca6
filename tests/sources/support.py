"""Sources under test: settings that point at the doubles, secrets in the local AWS, and what was landed."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
import pyarrow.parquet as pq

from lakehouse import store
from lakehouse.landing import Manifest
from lakehouse.runs import new_run_id
from lakehouse.settings import Settings
from local.saas.web import Control, Service, serve

NOW = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
NOBODY = "http://127.0.0.1:9"


def a_run(at: datetime = NOW) -> str:
    return new_run_id(at)


@dataclass
class Setup:
    """A fresh lake with settings; ``with_source`` changes one source's."""

    lake: str
    sources: dict[str, dict[str, Any]]
    retry: dict[str, Any] = field(
        default_factory=lambda: {"attempts": 4, "first_wait_seconds": 0.01, "max_wait_seconds": 5}
    )

    def with_source(self, name: str, **values: Any) -> Setup:
        return Setup(self.lake, self.sources | {name: self.sources[name] | values}, self.retry)

    def with_retry(self, **values: Any) -> Setup:
        return Setup(self.lake, self.sources, self.retry | values)

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "environment": "local",
                "region": "eu-central-1",
                "lake_uri": self.lake,
                "sources": self.sources | {"retry": self.retry},
                "prices": {
                    "region": "eu-central-1",
                    "as_of": "2026-11-01",
                    "vcpu_hour": 1,
                    "memory_gb_hour": 1,
                    "storage_gb_hour": 1,
                },
            }
        )

    def secret(self, source: str) -> str:
        return str(self.sources[source]["secret"])

    def put_secret(self, source: str, value: dict[str, str] | str) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        client = boto3.client("secretsmanager", region_name="eu-central-1")
        try:
            client.create_secret(Name=self.secret(source), SecretString=text)
        except client.exceptions.ResourceExistsException:
            client.put_secret_value(SecretId=self.secret(source), SecretString=text)

    def rows(self, manifest: Manifest) -> list[dict[str, Any]]:
        """What was landed, in its order."""
        found: list[dict[str, Any]] = []
        for uri in manifest.uris(self.settings, "jsonl"):
            text = gzip.decompress(store.get(uri) or b"").decode()
            found += [json.loads(line) for line in text.splitlines()]
        for uri in manifest.uris(self.settings, "parquet"):
            found += pq.read_table(io.BytesIO(store.get(uri) or b"")).to_pylist()
        return found

    def landed_keys(self) -> list[str]:
        return list(store.keys(f"{self.lake}/landing/"))


@dataclass
class Server:
    """A double in this process."""

    url: str
    control: Control

    def fault(self, **described: Any) -> None:
        self.control.add(described)

    @property
    def requests(self) -> list[dict[str, Any]]:
        return list(self.control.log)


@contextmanager
def serving(service: Service) -> Iterator[Server]:
    """The service on a free port of the loopback while the block runs."""
    control = Control()
    server = serve(service, control, lambda request: service.answer(request), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_address[1]}", control)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
