"""What tests share: one Spark session and one local AWS a run, a fresh lake a test.

Nothing here imports PySpark or boto3 before a test asks for it: tests without Spark stay fast.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support import REPO, Aws, free_port, spark_properties, write_properties_file

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from local.supervisor import ServiceSpec

# No test is timed: a busy machine would fail what is right.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

_bucket_numbers = itertools.count(1)
# Folders whose files take minutes, longest first: begun last, one would keep a worker busy when the others are done.
_LONG = ("e2e", "recovery", "quality", "stream", "flows", "delta", "dags")
# Folders whose files share one arrangement that takes minutes: on two workers it would be made twice.
_TOGETHER = ("e2e",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {REPO / "tests" / folder: place for place, folder in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.path.parent, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each file goes to one worker whole, as with ``--dist loadfile``; of some folders all files to the same one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByArrangement(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            folder = file.split("/")[1]
            return folder if folder in _TOGETHER else file

    return ByArrangement(config, log)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One session a run: Delta, S3A, UTC, few partitions, no UI. With ``lake`` it reads and writes ``s3://``."""
    from local.jars import SetupIncomplete, java_tool

    state = tmp_path_factory.mktemp("spark")
    try:
        java_tool()
        extra = spark_properties(state, "http://127.0.0.1:9")
    except SetupIncomplete as problem:
        pytest.fail(str(problem), pytrace=False)
    properties = write_properties_file(state / "spark.conf", extra)
    with pytest.MonkeyPatch.context() as patch:
        # A Spark of the user's own would be used in place of the pinned one.
        patch.delenv("SPARK_HOME", raising=False)
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--properties-file {properties} pyspark-shell")
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_DIRS", str(state / "local"))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        from pyspark.sql import SparkSession

        session = SparkSession.builder.appName("tests").getOrCreate()
        jvm = session.sparkContext._jvm
        # PySpark asks for these two at every call of a function, and each time Py4J looks for them in every jar.
        for name in ("functions", "PythonUtils"):
            setattr(jvm, name, getattr(jvm, name))
        yield session
        session.stop()
        gateway = type(session.sparkContext)._gateway
        if gateway is not None:
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait(timeout=120)


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """The local AWS on a port of its own, with state that ends with the run."""
    from local.aws import server
    from local.supervisor import base_environment

    state = tmp_path_factory.mktemp("aws")
    env = base_environment() | {"LAKEHOUSE_STATE_DIR": str(state)}
    with _running(server.spec(state, {"aws": free_port()}, env), state) as exports:
        yield Aws(exports["AWS_ENDPOINT_URL"], exports, state)


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Kafka broker of the module's own listens."""
    from local import kafka
    from local.supervisor import base_environment

    state = tmp_path_factory.mktemp("kafka")
    ports = {"kafka": free_port(), "kafka_controller": free_port()}
    with _running(kafka.spec(state, ports, base_environment()), state) as exports:
        yield exports["LOCAL_KAFKA_BOOTSTRAP"]


@contextmanager
def _running(spec: ServiceSpec, state: Path) -> Iterator[dict[str, str]]:
    """A service of the local stack, ready for as long as the block lasts; what it exports."""
    from local.supervisor import Supervisor

    supervisor = Supervisor(state)
    supervisor.start(spec, REPO)
    try:
        supervisor.wait_ready(spec)
        yield spec.exports
    finally:
        supervisor.stop(spec.name)


@pytest.fixture(scope="session")
def runner_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DQ runner's zip, unpacked as Lambda unpacks it; nothing may be written there."""
    from tests.support import make_runner

    return make_runner(tmp_path_factory.mktemp("runner_task"))


@pytest.fixture
def lake(aws: Aws, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """``s3://lake-<n>``, a fresh bucket; boto3, the library and Spark (where the test uses it) reach it."""
    from lakehouse import store

    bucket = f"lake-{next(_bucket_numbers)}"
    aws.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)
    store.client.cache_clear()
    uri = f"s3://{bucket}"
    session = request.getfixturevalue("spark") if "spark" in request.fixturenames else None
    if session is not None:
        session._jsc.hadoopConfiguration().set("fs.s3a.endpoint", aws.endpoint)
    yield uri
    store.client.cache_clear()
    if session is not None:
        jvm = session._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        # S3A keeps a client with its threads for each bucket.
        conf = session._jsparkSession.sessionState().newHadoopConf()
        jvm.org.apache.hadoop.fs.Path(f"{uri}/").getFileSystem(conf).close()


@pytest.fixture(autouse=True)
def _logging_as_found() -> Iterator[None]:
    """A job that runs in this process sends its logs to the stderr of its test, which is closed when that ends."""
    loggers = [logging.getLogger(), logging.getLogger("lakehouse")]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _region_as_found() -> Iterator[None]:
    """Settings that a test reads choose the Region of the process's clients."""
    yield
    if (store := sys.modules.get("lakehouse.store")) is not None:
        store._chosen.clear()


@pytest.fixture(scope="session", autouse=True)
def _utc() -> None:
    """Python's conversions of timestamps use the zone of the process; results must not depend on the machine's."""
    os.environ["TZ"] = "UTC"
    time.tzset()
