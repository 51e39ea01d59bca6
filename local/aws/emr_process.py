"""One attempt of a job run as a real `spark-submit`: what it is given, how it is started, stopped and reported."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from local.supervisor import UTF8_LOCALE

# The Delta jars of EMR's own image; here the class path has them.
IMAGE_JARS = ("/usr/share/aws/", "/usr/lib/spark/jars/")
FILE_OPTIONS = {
    "--py-files": "spark.submit.pyFiles",
    "--files": "spark.files",
    "--jars": "spark.jars",
    "--archives": "spark.archives",
}
FILE_CONFS = tuple(FILE_OPTIONS.values())
FORBIDDEN_OPTIONS = ("--master", "--deploy-mode", "--properties-file", "--kill", "--status")
JOB_RUN_ID = "LAKEHOUSE_EMR_JOB_RUN_ID"
DRIVER_ENV = "spark.emr-serverless.driverEnv."
TAIL_BYTES = 8000
DRIVER_MEMORY = "1200m"
COMPLAINT = re.compile(
    r"^(Caused by: |Exception in thread |Traceback |(\w+\.)*\w*(Error|Exception)\b)|\bERROR\b"
)


class Objects(Protocol):
    """The two things a job needs of S3."""

    def read(self, uri: str) -> bytes: ...

    def write(self, uri: str, data: bytes) -> None: ...


class LocaliseError(Exception):
    """A file the job names cannot be had."""


@dataclass
class Submission:
    """A job driver taken apart: the confs in their order of precedence, and the rest of the command line."""

    entry_point: str
    arguments: list[str]
    confs: dict[str, str]
    options: list[str] = field(default_factory=list)
    # Log4j's properties that the driver's file gets; none: a file for people.
    log4j: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(driver: dict[str, Any], *layers: dict[str, str]) -> Submission:
        """`layers` are confs from the weakest to the strongest; sparkSubmitParameters are stronger than all."""
        confs: dict[str, str] = {}
        for layer in layers:
            confs.update(layer)
        options: list[str] = []
        words = shlex.split(driver.get("sparkSubmitParameters") or "")
        at = 0
        while at < len(words):
            word = words[at]
            name, equals, inline = word.partition("=")
            if not name.startswith("-"):
                raise ValueError(f"sparkSubmitParameters: unexpected {word!r}")
            if name in ("--verbose", "-v", "--supervise"):
                options.append(name)
                at += 1
                continue
            if equals and name.startswith("--"):
                value, step = inline, 1
            elif at + 1 < len(words):
                value, step = words[at + 1], 2
            else:
                raise ValueError(f"sparkSubmitParameters: {name} has no value")
            at += step
            if name in ("--conf", "-c"):
                key, eq, setting = value.partition("=")
                if not eq:
                    raise ValueError(f"sparkSubmitParameters: --conf wants key=value, not {value!r}")
                confs[key.strip()] = setting
            elif name in FILE_OPTIONS:
                confs[FILE_OPTIONS[name]] = value
            elif name in FORBIDDEN_OPTIONS:
                raise ValueError(f"sparkSubmitParameters: {name} is not allowed, EMR Serverless sets it")
            else:
                options += [name, value]
        return Submission(
            driver["entryPoint"], [str(a) for a in driver.get("entryPointArguments") or []], confs, options
        )


def image_confs(endpoint: str) -> dict[str, str]:
    """What EMR's image and service provide, for one laptop: S3 through S3A, and the size of a small machine."""
    return {
        "spark.master": "local[2]",
        "spark.driver.memory": DRIVER_MEMORY,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # Driver and executor are one process here. Where a laptop sleeps, Spark would take the executor for lost, and
        # end the driver ten minutes later.
        "spark.network.timeout": "7200s",
        "spark.executor.heartbeatInterval": "3600s",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.default.parallelism": "2",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.s3.impl": "org.apache.hadoop.fs.s3a.S3A",
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": "eu-central-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        "spark.hadoop.fs.s3a.access.key": "testing",
        "spark.hadoop.fs.s3a.secret.key": "testing",
    }


#: What a submission says of the workers of EMR, which one process has in place of.
WORKER_SIZES = (
    "spark.driver.cores",
    "spark.driver.memory",
    "spark.executor.cores",
    "spark.executor.memory",
    "spark.executor.instances",
    "spark.dynamicAllocation.",
)


def of_one_machine(confs: dict[str, str]) -> dict[str, str]:
    """The confs of a driver that is a whole application on a laptop: its memory is the laptop's, whatever EMR gives."""
    kept = {key: value for key, value in confs.items() if not key.startswith(WORKER_SIZES)}
    return kept | {"spark.driver.memory": DRIVER_MEMORY}


def localise(uri: str, folder: Path, objects: Objects, jars: Path) -> str:
    """The local path of a file a job names; s3:// objects are fetched, a Kafka jar that is here is linked."""
    bare, hash_, alias = uri.partition("#")
    if bare.startswith(("s3://", "s3a://", "s3n://")):
        name = bare.rsplit("/", 1)[-1]
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / name
        here = next(
            (j for j in (jars / part / name for part in ("kafka", "spark", "s3a")) if j.is_file()), None
        )
        if name.endswith(".jar") and here is not None:
            if not target.exists():
                target.symlink_to(here)
        else:
            target.write_bytes(objects.read(bare))
        return f"{target}{hash_}{alias}"
    path = bare.removeprefix("local://").removeprefix("file://")
    if not Path(path).exists():
        raise LocaliseError(f"{uri} does not exist")
    return f"{path}{hash_}{alias}"


def localise_list(value: str, folder: Path, objects: Objects, jars: Path) -> str:
    """A comma-separated list of files; those of EMR's image are left out, the class path has them."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return ",".join(localise(p, folder, objects, jars) for p in parts if not p.startswith(IMAGE_JARS))


class Attempt:
    """A running spark-submit in its own process group."""

    def __init__(self, folder: Path, argv: list[str], env: dict[str, str]):
        self.folder = folder
        with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
            self.process = subprocess.Popen(
                argv,
                cwd=folder / "work",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait(self, deadline: float | None, cancelled: Callable[[], bool]) -> int | None:
        """The exit code, or None where the job was cancelled or ran out of time (it may still be running)."""
        while True:
            try:
                return self.process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                if cancelled() or (deadline is not None and time.monotonic() > deadline):
                    return None

    def kill(self, grace: float) -> None:
        """End the whole group: SIGTERM, a grace period, SIGKILL."""
        kill_group(self.process.pid, grace, self.process)


def kill_group(pid: int, grace: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """End a process group that this server made the leader of."""
    end = time.monotonic() + grace
    try:
        os.killpg(pid, signal.SIGTERM)
        while time.monotonic() < end:
            if process is not None:
                process.poll()
            os.killpg(pid, 0)
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if process is not None:
        process.wait()


def prepare(
    submission: Submission, folder: Path, objects: Objects, jars: Path, stack_env: dict[str, str]
) -> dict[str, str]:
    """Fetch the job's files below `folder` and point the submission at them; the environment of its driver."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "work").mkdir(parents=True, exist_ok=True)
    files = folder / "files"
    confs = submission.confs
    for key in FILE_CONFS:
        if key in confs:
            confs[key] = localise_list(confs[key], files / key.rsplit(".", 1)[-1], objects, jars)
            if not confs[key]:
                del confs[key]
    if archives := confs.pop("spark.archives", None):
        unpack(archives, folder / "work")
    submission.entry_point = localise(submission.entry_point, files, objects, jars)
    confs.setdefault("spark.sql.warehouse.dir", str(folder / "tmp" / "warehouse"))
    confs.setdefault("spark.hadoop.hadoop.tmp.dir", str(folder / "tmp" / "hadoop"))
    # Its default is an expression around that folder, which Hadoop does not take for one where a space is in it.
    confs.setdefault("spark.hadoop.fs.s3a.buffer.dir", str(folder / "tmp" / "s3a"))
    driver_env = {k[len(DRIVER_ENV) :]: confs.pop(k) for k in list(confs) if k.startswith(DRIVER_ENV)}
    return driver_environment(stack_env, driver_env, folder)


def driver_environment(stack_env: dict[str, str], driver_env: dict[str, str], folder: Path) -> dict[str, str]:
    env = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "JAVA_HOME", "TZ", "USER") if k in os.environ}
    env |= stack_env
    env |= {
        "LC_ALL": UTF8_LOCALE,
        # Of Spark's home a driver in Python reads one thing: zips of PySpark that every process would compile anew.
        # Without them it imports the installed package, which is the same.
        "SPARK_HOME": str(folder / "work"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # A job names the interpreter of its archive, relative to where that is unpacked; without the archive it has ours.
    env |= {
        k: v for k, v in driver_env.items() if not k.startswith("PYSPARK_") or (folder / "work" / v).exists()
    }
    if env["PYSPARK_PYTHON"] != sys.executable:
        env["PYTHONPATH"] = str(image_python(folder / "tmp" / "image"))
    return env


def image_python(folder: Path) -> Path:
    """What EMR's image has for an interpreter that is not ours: PySpark, and nothing else of the clone's packages."""
    folder.mkdir(exist_ok=True)
    for name in ("pyspark", "py4j"):
        package = importlib.util.find_spec(name)
        if package is None or package.origin is None:
            raise LocaliseError(f"{name} is not installed: `make setup`")
        (folder / name).symlink_to(Path(package.origin).parent)
    return folder


def unpack(archives: str, work: Path) -> None:
    """spark.archives, where EMR Serverless has them: below the working directory, by the name after the #."""
    for one in archives.split(","):
        path, _, alias = one.partition("#")
        target = work / (alias or Path(path).name)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(target)
        else:
            with tarfile.open(path) as packed:
                packed.extractall(target, filter="data")


def tail(path: Path, size: int = TAIL_BYTES) -> str:
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, path.stat().st_size - size))
            return handle.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def failure_details(code: int, folder: Path) -> str:
    """AWS's words for a failed driver, with what it last complained about.

    Spark's own complaints are on stderr; it puts all that a Python driver says, tracebacks too, on stdout.
    """
    complaints: list[str] = []
    rest: list[str] = []
    for name in ("stdout", "stderr"):
        lines = [line.strip() for line in tail(folder / name).splitlines() if line.strip()]
        complaints += [line for line in lines if COMPLAINT.search(line)]
        rest = lines or rest
    last = "\n".join((complaints or rest)[-6:])
    return (
        "Job failed, please check complete logs in configured logging destination. "
        f"ExitCode: {code}. Last few exceptions: {last}"
    )[:2048]


def upload_logs(folder: Path, log_uri: str, app: str, job: str, attempt: int, objects: Objects) -> None:
    """The driver's output where EMR puts it."""
    middle = f"applications/{app}/jobs/{job}/" + (f"attempts/{attempt}/" if attempt > 1 else "")
    for name in ("stdout", "stderr"):
        data = (folder / name).read_bytes() if (folder / name).exists() else b""
        objects.write(f"{log_uri.rstrip('/')}/{middle}SPARK_DRIVER/{name}.gz", gzip.compress(data, 1))


def clean(folder: Path) -> None:
    """Keep the logs of an attempt, not its scratch files."""
    for part in ("tmp", "files", "work"):
        shutil.rmtree(folder / part, ignore_errors=True)


def memory_gb(text: str, default: float) -> float:
    units = {"k": 1 / 1024 / 1024, "m": 1 / 1024, "g": 1.0, "t": 1024.0}
    text = text.strip().lower().rstrip("b")
    if not text:
        return default
    try:
        return float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text) / 1024**3
    except ValueError:
        return default


def utilisation(confs: dict[str, str], seconds: float) -> dict[str, float]:
    """vCPU, memory and storage hours of one driver and its executors at EMR's defaults (4 vCPU, 14 GB, 20 GB each),
    rounded up to whole seconds as billed."""
    workers: Iterable[tuple[str, int]] = (
        ("spark.driver", 1),
        ("spark.executor", int(confs.get("spark.executor.instances", "3") or 0)),
    )
    cpu = memory = storage = 0.0
    for prefix, count in workers:
        cores = int(confs.get(f"{prefix}.cores", "4"))
        heap = memory_gb(confs.get(f"{prefix}.memory", "14g"), 14.0)
        gigabytes = heap + memory_gb(confs.get(f"{prefix}.memoryOverhead", ""), heap * 0.1)
        cpu += count * cores
        memory += count * gigabytes
        storage += count * 20.0
    hours = seconds / 3600
    return {
        "vCPUHour": round(cpu * hours, 3),
        "memoryGBHour": round(memory * hours, 3),
        "storageGBHour": round(storage * hours, 3),
    }
