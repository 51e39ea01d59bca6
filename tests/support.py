"""Helpers that tests share; fixtures are in conftest.py. Imports neither PySpark nor boto3 before it is asked to."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import re
import socket
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.settings import Settings

REPO = Path(__file__).resolve().parent.parent
#: Logs of empty tables, by the name of the contract: what ``make_tables`` has made so far.
_EMPTY: dict[str, dict[str, bytes]] = {}


@dataclass(frozen=True)
class Aws:
    """The local AWS of this test run."""

    endpoint: str
    env: dict[str, str]
    state: Path

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            region_name=self.env["AWS_REGION"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )


def meets_another(path: str) -> bool:
    """Whether the local S3 answers the first conditional write of ``bucket/key`` by a conflict (409)."""
    from local.aws.s3_store import CONFLICT_EVERY

    return zlib.crc32(path.encode()) % CONFLICT_EVERY == 0


def met_key(lake_uri: str, form: str) -> str:
    """A URI of which that is so; ``form`` has a place for a number."""
    uris = (f"{lake_uri}/{form.format(number)}" for number in itertools.count())
    return next(uri for uri in uris if meets_another(uri.removeprefix("s3://")))


def new_delta(uri: str, rows: Any, options: dict[str, str], **more: Any) -> None:
    """Make a Delta table by delta-rs, with the conditional create that its commits need."""
    from deltalake import write_deltalake

    write_deltalake(uri, rows, storage_options=options | {"aws_conditional_put": "etag"}, **more)


def make_tables(spark: SparkSession, settings: Settings, names: Iterable[str]) -> None:
    """Tables by their contracts, empty, as apply_contracts makes them: each made once a test run, and then copied."""
    from lakehouse import contracts, store
    from lakehouse.flows.apply_contracts import apply_contracts

    names = list(names)
    new = [name for name in names if name not in _EMPTY]
    if new:
        apply_contracts(spark, settings, [contracts.load(name) for name in new])
    for name in names:
        log = f"{settings.table_uri(name)}/_delta_log/"
        if name in new:
            _EMPTY[name] = {uri.removeprefix(log): store.get(uri) or b"" for uri in store.keys(log)}
            continue
        for key, body in _EMPTY[name].items():
            store.put(log + key, body)


@contextmanager
def snowflake_double(state: Path) -> Iterator[int]:
    """The local Snowflake in this process; the port at which it listens for as long as the block lasts."""
    import uvicorn

    from local.snowflake import server as double_server

    number = free_port()
    config = uvicorn.Config(
        double_server.with_transport(double_server.application(state)),
        host="127.0.0.1",
        port=number,
        log_level="error",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield number
    server.should_exit = True
    thread.join()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load_script(name: str) -> ModuleType:
    """A file of scripts/ as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, REPO / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spark_properties(state: Path, endpoint: str) -> dict[str, str]:
    """Spark's properties for tests beyond emr_configs/: the local EMR's, with everything it writes below ``state``."""
    from local import log4j
    from local.aws.emr_launch import FAST_OPTIONS
    from local.aws.emr_process import image_confs
    from local.jars import jars

    class_path = jars("spark", "s3a", "kafka")  # says what to type where they are missing
    log4j_file = state / "log4j2.properties"
    log4j_file.write_text(log4j.properties())
    return image_confs(endpoint) | {
        "spark.driver.extraClassPath": os.pathsep.join(map(str, class_path)),
        "spark.jars": "",
        "spark.driver.memory": "2g",
        # Small plans that run once: compiling them to Java takes longer than interpreting them, and to plan each stage
        # anew by what the one before it wrote gains nothing. Jobs do both.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": " ".join(
            [
                *FAST_OPTIONS,
                f"-Dlog4j2.configurationFile={log4j_file}",
                f"-Dderby.system.home={state}",
            ]
        ),
        "spark.sql.warehouse.dir": str(state / "warehouse"),
        "spark.hadoop.hadoop.tmp.dir": str(state / "hadoop"),
        "spark.hadoop.fs.s3a.buffer.dir": str(state / "hadoop"),
    }


def write_properties_file(path: Path, extra: dict[str, str]) -> Path:
    """The shared property files and ``extra`` in one, as spark-submit takes it; later lines win."""
    shared = [
        (REPO / "emr_configs" / name).read_text() for name in ("spark-defaults.conf", "delta-core.conf")
    ]
    path.write_text("\n".join([*shared, *(f"{key} {value}" for key, value in extra.items())]) + "\n")
    return path


def required_packages() -> list[str]:
    """What requirements/dq_runner.txt pins for this Python, as name==version."""
    from packaging.requirements import Requirement

    text = (REPO / "requirements" / "dq_runner.txt").read_text()
    lines = re.findall(r"^([a-z0-9][^\\\n]*?) *\\?$", text, re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return [f"{one.name}{one.specifier}" for one in found if one.marker is None or one.marker.evaluate()]


def make_runner(folder: Path) -> Path:
    """The DQ runner's zip of this checkout, unpacked. Its packages are those installed here, of the same versions."""
    import importlib.metadata

    from scripts import archives, release, runner_package

    files = {}
    for pin in required_packages():
        name, _, version = pin.partition("==")
        distribution = importlib.metadata.distribution(name)
        assert distribution.version == version
        for file in distribution.files or []:
            outside = file.parts[0] == ".."  # a command of bin/
            about = file.name in archives.ABOUT_AN_INSTALLATION
            if not outside and not about and runner_package.is_needed(file.as_posix()):
                files[file.as_posix()] = Path(str(distribution.locate_file(file))).read_bytes()
    body = archives.zip_bytes(files | release.runner_files(allow_dirty=True))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        archive.extractall(folder)
    return folder
