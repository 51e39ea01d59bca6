"""What tests share: one Spark session and one local AWS a run, a fresh lake a test.

Nothing here imports PySpark or boto3 before a test asks for it: tests without Spark stay fast.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import REPO, Aws, free_port, spark_properties, write_properties_file

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_bucket_numbers = itertools.count(1)


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
        yield session
        session.stop()
        gateway = type(session.sparkContext)._gateway
        if gateway is not None:
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait(timeout=30)


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """The local AWS on a port of its own, with state that ends with the run."""
    from local.aws import server
    from local.supervisor import Supervisor, base_environment

    state = tmp_path_factory.mktemp("aws")
    env = base_environment() | {"LAKEHOUSE_STATE_DIR": str(state)}
    spec = server.spec(state, {"aws": free_port()}, env)
    supervisor = Supervisor(state)
    supervisor.start(spec, REPO)
    try:
        supervisor.wait_ready(spec)
        yield Aws(spec.exports["AWS_ENDPOINT_URL"], spec.exports, state)
    finally:
        supervisor.stop(spec.name)


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


@pytest.fixture(scope="session", autouse=True)
def _utc() -> None:
    """Python's conversions of timestamps use the zone of the process; results must not depend on the machine's."""
    os.environ["TZ"] = "UTC"
    time.tzset()
