"""A local AWS of a test's own, that the test may kill and start again."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.aws import server
from local.supervisor import Supervisor, base_environment
from tests.support import REPO, Aws, free_port

# In place of Java: asked for a driver's options it gives none, told to run a driver it runs the entry point. For what
# is not about Spark, a job then takes milliseconds.
JAVA = f"""#!/bin/sh
main=org.apache.spark.deploy.SparkSubmit
case " $* " in *" org.apache.spark.launcher.Main "*) echo $main; exit;; esac
while [ "$1" != $main ]; do shift; done
shift
export PROPERTIES="$2"
while case "$1" in -*) true;; *) false;; esac; do shift 2; done
exec {sys.executable} "$@"
"""


@dataclass
class Server:
    state: Path
    env: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    def start(self) -> Aws:
        env = base_environment() | {"LAKEHOUSE_STATE_DIR": str(self.state)} | self.env
        spec = server.spec(self.state, {"aws": self.port}, env)
        supervisor = Supervisor(self.state)
        supervisor.start(spec, REPO)
        supervisor.wait_ready(spec)
        return Aws(spec.exports["AWS_ENDPOINT_URL"], spec.exports, self.state)

    @property
    def pid(self) -> int:
        running = Supervisor(self.state).running("aws")
        assert running is not None
        return running.pid

    def kill(self) -> None:
        """As the kernel would when memory runs out: no goodbye."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(-1, 0)

    def stop(self) -> None:
        Supervisor(self.state).stop("aws")


def without_java(folder: Path) -> dict[str, str]:
    """The environment of a server whose drivers are plain Python."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA)
    java.chmod(0o755)
    return {"JAVA_HOME": str(folder)}


def bucket(aws: Aws, name: str) -> Any:
    """The S3 client, and a bucket made."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]})
    return s3


def together(count: int, work: Any) -> list[Any]:
    """Run `work(i)` in as many threads, let go at the same moment; the results, exceptions among them."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = work(i)
        except Exception as e:
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
