"""The conditional log store: what one write does, and that two drivers at once lose nothing.

The control runs the same two drivers with Delta's default store, which has to lose commits: a test that cannot fail
proves nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lakehouse import session, store
from lakehouse.errors import StorageUnsafe
from lakehouse.session import local_frame
from tests.support import REPO, Aws, met_key, spark_properties, write_properties_file

COMMITS = 10
# `make merge-test` asks for more.
MERGES = int(os.environ.get("MERGES", "3"))
CONTROL_ROUNDS = 3
RENDEZVOUS_SECONDS = 2.0
TAKEN = "java.nio.file.FileAlreadyExistsException"


def log_write(spark: Any, uri: str, *lines: str, overwrite: bool = False) -> None:
    """Write a log file as Delta does."""
    jvm = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    actions = jvm.java.util.ArrayList()
    for line in lines:
        actions.add(line)
    log = jvm.com.lakehouse.delta.S3ConditionalLogStore(conf)
    log.write(jvm.org.apache.hadoop.fs.Path(uri), actions.iterator(), overwrite, conf)


def java_class(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value.java_exception.getClass().getName())


class TestOneWrite:
    """What a caller of the store sees."""

    def test_a_taken_version_is_refused_and_kept(self, spark: Any, lake: str) -> None:
        from py4j.protocol import Py4JJavaError

        log_write(spark, f"{lake}/t/_delta_log/0.json", "first", "é")
        with pytest.raises(Py4JJavaError) as refused:
            log_write(spark, f"{lake}/t/_delta_log/0.json", "second")
        assert java_class(refused) == TAKEN
        assert store.get(f"{lake}/t/_delta_log/0.json") == "first\né\n".encode()

    def test_its_own_commit_met_again_is_a_success(self, spark: Any, lake: str) -> None:
        """S3 kept a put, its answer was lost, and the client's retry is refused: equal bytes are our own."""
        log_write(spark, f"{lake}/t/_delta_log/0.json", "txnId 1")
        log_write(spark, f"{lake}/t/_delta_log/0.json", "txnId 1")
        assert store.get(f"{lake}/t/_delta_log/0.json") == b"txnId 1\n"

    def test_a_put_that_met_another_request_is_repeated(self, spark: Any, lake: str) -> None:
        """S3 answers 409 where another request is at work on the key: the version is free all the same."""
        path = met_key(lake, "t/_delta_log/{}.json")
        log_write(spark, path, "first")
        assert store.get(path) == b"first\n"

    def test_overwrite_replaces(self, spark: Any, lake: str) -> None:
        log_write(spark, f"{lake}/t/_delta_log/_last_checkpoint", "old")
        log_write(spark, f"{lake}/t/_delta_log/_last_checkpoint", "new", overwrite=True)
        assert store.get(f"{lake}/t/_delta_log/_last_checkpoint") == b"new\n"

    @pytest.mark.parametrize("overwrite", [False, True], ids=["commit", "overwrite"])
    def test_a_write_that_breaks_off_publishes_nothing(self, spark: Any, lake: str, overwrite: bool) -> None:
        from py4j.protocol import Py4JJavaError

        jvm = spark._jvm
        conf = spark._jsparkSession.sessionState().newHadoopConf()
        actions = jvm.java.util.ArrayList()
        actions.add("first")
        broken = actions.iterator()
        actions.add("added behind the iterator's back, whose next() throws for it")
        log = jvm.com.lakehouse.delta.S3ConditionalLogStore(conf)
        with pytest.raises(Py4JJavaError) as failed:
            log.write(jvm.org.apache.hadoop.fs.Path(f"{lake}/t/_delta_log/0.json"), broken, overwrite, conf)
        assert java_class(failed) == "java.util.ConcurrentModificationException"
        assert list(store.keys(f"{lake}/t")) == []


class TestProbe:
    """A job starts only where S3 keeps the promise the store stands on."""

    def test_passes_where_the_second_create_is_refused(self, spark: Any, lake: str) -> None:
        session.probe(spark, lake)
        first = store.get(f"{lake}/ops/_probe/log_store")
        session._probed.discard(lake)
        session.probe(spark, lake)
        assert store.get(f"{lake}/ops/_probe/log_store") == first

    def test_asks_once_a_process(self, spark: Any, lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
        session.probe(spark, lake)
        monkeypatch.setattr(session, "_create", lambda *_: pytest.fail("asked again"))
        session.probe(spark, lake)

    def test_refuses_an_s3_that_ignores_the_condition(self, spark: Any, aws: Aws, lake: str) -> None:
        hadoop = spark._jsc.hadoopConfiguration()
        bucket = lake.removeprefix("s3://")
        with proxied(aws.endpoint, conditional=False) as endpoint:
            hadoop.set(f"fs.s3a.bucket.{bucket}.endpoint", endpoint)
            with pytest.raises(StorageUnsafe, match="created one key twice"):
                session.probe(spark, lake)
        assert lake not in session._probed


@contextmanager
def proxied(upstream: str, *, conditional: bool = True, together: int = 1) -> Iterator[str]:
    """The local S3 behind a proxy.

    One that does not know If-None-Match, or one that lets commits through only ``together`` (or after a while): then
    every driver is past its own look at the log when the first commit arrives, the moment the log store is for.
    """
    target = urlsplit(upstream)
    rendezvous = threading.Barrier(together)

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            if not conditional:
                headers.pop("If-None-Match", None)
            if self.command == "PUT" and "/_delta_log/0" in self.path and self.path.endswith(".json"):
                try:
                    rendezvous.wait(RENDEZVOUS_SECONDS)
                except threading.BrokenBarrierError:
                    rendezvous.reset()
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Driver:
    """A Spark driver in a process of its own. s3:// has the project's log store, s3a:// Delta's default."""

    def __init__(self, name: str, aws: Aws, endpoint: str, folder: Path) -> None:
        self.name = name
        folder.mkdir()
        properties = spark_properties(folder, endpoint) | {
            "spark.driver.memory": "1g",
            # A checkpoint in the middle would cost more than all commits.
            "spark.databricks.delta.properties.defaults.checkpointInterval": "100",
            "spark.delta.logStore.s3a.impl": "io.delta.storage.S3SingleDriverLogStore",
        }
        file = write_properties_file(folder / "spark.conf", properties)
        environment = (
            os.environ
            | aws.env
            | {
                "PYSPARK_SUBMIT_ARGS": f"--properties-file {file} pyspark-shell",
                "PYTHONPATH": str(REPO / "src"),
                "SPARK_LOCAL_DIRS": str(folder / "local"),
                "SPARK_LOCAL_IP": "127.0.0.1",
            }
        )
        environment.pop("SPARK_HOME", None)
        self.log = folder / "stderr"
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("log_store_driver.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            )  # fmt: skip

    def say(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"driver {self.name} died:\n{self.log.read_text()[-4000:]}"
        return str(json.loads(line))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def drivers(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Driver]]:
    folder = tmp_path_factory.mktemp("drivers")
    with ExitStack() as stack:
        endpoint = stack.enter_context(proxied(aws.endpoint, together=2))
        started = [Driver(name, aws, endpoint, folder / name) for name in ("a", "b")]
        for driver in started:
            stack.callback(driver.close)
        assert [driver.hear() for driver in started] == ["ready", "ready"]
        yield started


def append_at_once(drivers: list[Driver], uri: str) -> None:
    """Both drivers append to one table, side by side; returns when both have finished without an error."""
    drivers[0].say("append", uri, "first", 1)  # creating the table is no append
    assert drivers[0].hear() == "done"
    for driver in drivers:
        driver.say("append", uri, driver.name, COMMITS)
    assert [driver.hear() for driver in drivers] == ["done", "done"]


def rows(spark: Any, uri: str) -> set[tuple[str, int]]:
    found = spark.read.format("delta").load(uri).collect()
    assert len(found) == len({(row.driver, row.id) for row in found})
    return {(row.driver, row.id) for row in found}


EXPECTED = {("first", 0)} | {(name, number) for name in ("a", "b") for number in range(COMMITS)}


def test_two_drivers_at_once_keep_every_commit(spark: Any, lake: str, drivers: list[Driver]) -> None:
    append_at_once(drivers, f"{lake}/shared")
    assert rows(spark, f"{lake}/shared") == EXPECTED


def both(drivers: list[Driver], uri: str, *commands: str) -> int:
    """One command each at the same time on a table of ids; returns how often one of them lost a race."""
    drivers[0].say("merge", uri, "first", 1)
    drivers[0].hear()
    for driver, command in zip(drivers, commands, strict=True):
        driver.say(command, uri, driver.name, MERGES)
    answers = [driver.hear() for driver in drivers]
    assert all(answer.startswith("done, ") for answer in answers), answers
    return sum(int(answer.split()[1]) for answer in answers)


@pytest.mark.proof
@pytest.mark.timeout(600 + 60 * MERGES)
@pytest.mark.parametrize("other", ["merge", "optimize"])
def test_a_merge_against_another_writer_loses_and_doubles_no_row(
    spark: Any, lake: str, drivers: list[Driver], other: str
) -> None:
    uri = f"{lake}/merged"
    empty = local_frame(spark, [], "id string, driver string")
    empty.write.format("delta").save(uri)
    lost = both(drivers, uri, "merge", other)
    assert lost > 0, "they never met: nothing was shown"
    found = [row["id"] for row in spark.read.format("delta").load(uri).collect()]
    names = ("both", "a", "b") if other == "merge" else ("both", "a")
    expected = {f"{name}-{number}" for name in names for number in range(MERGES)} | {"both-0", "first-0"}
    assert sorted(found) == sorted(expected)


@pytest.mark.proof
def test_two_drivers_with_deltas_default_store_lose_commits(
    spark: Any, lake: str, drivers: list[Driver]
) -> None:
    """The control. Neither driver reports an error for what is lost."""
    bucket = lake.removeprefix("s3://")
    for number in range(CONTROL_ROUNDS):
        append_at_once(drivers, f"s3a://{bucket}/control-{number}")
        if rows(spark, f"{lake}/control-{number}") != EXPECTED:
            return
    pytest.fail(
        f"the default store lost nothing in {CONTROL_ROUNDS} rounds: the test above could not have failed"
    )


def test_a_job_with_another_log_store_is_refused(lake: str, drivers: list[Driver]) -> None:
    drivers[0].say("session", lake)
    answer = drivers[0].hear()
    assert answer.startswith("CONFIG: spark.delta.logStore.s3.impl")
    assert (
        "received com.lakehouse.delta.S3ConditionalLogStore, io.delta.storage.S3SingleDriverLogStore"
        in answer
    )
