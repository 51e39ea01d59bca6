"""How a driver's JVM is started: what bin/spark-submit would run in the end, with a faster start.

bin/spark-submit first starts a JVM that only prints the command line of the second. That command line is the same for
every job but for the job's own confs, so it is asked for once and kept. Two things then halve what a short job costs
[measured: 42 s of CPU for a job of two Delta commits as spark-submit starts it, 25 s with the C1 compiler and the
serial collector, 16 s with a class archive too]:

* C1 and the serial collector: jobs that live for seconds do not live to see C2's code.
* An archive of the loaded and verified classes (AppCDS), written by the set-up (class_archive), else when the first
  Delta job ends, and mapped by later ones. It is valid for one Java and one list of jars; its name says which.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import subprocess
import threading
from pathlib import Path

from local import jars as local_jars
from local import log4j
from local.aws.emr_process import LocaliseError, Submission, of_one_machine
from local.supervisor import UTF8_LOCALE

MAIN = "org.apache.spark.deploy.SparkSubmit"
# The last three: class metadata of a Spark job passes the default threshold, a full collection for nothing; a JVM with
# C1 alone keeps 48 MB for compiled code, which a job of many plans fills and then throws out again; and what a task
# makes is garbage before the next one, so that a large young generation is nearly free to empty.
FAST_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xlog:disable",
    "-XX:MetaspaceSize=256m",
    "-XX:ReservedCodeCacheSize=240m",
    "-Xmn400m",
    "-XX:-UsePerfData",
)
DELTA = "io.delta.sql.DeltaSparkSessionExtension"
SPARK_SCALA_VERSION = "2.13"


class Launcher:
    """Builds command lines; one per server."""

    def __init__(self, root: Path, jars: Path):
        self.jars = jars
        self.archives = jars.parent / "cds"
        root.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._options: list[str] | None = None
        self._training = False
        self._log4j = root / "log4j2.properties"
        self._log4j.write_text(log4j.properties(), encoding="utf-8")

    def class_path(self) -> list[Path]:
        """The jars of the image, then Spark's own, in an order that stays the same."""
        folders = [self.jars / "spark", self.jars / "s3a", local_jars.pyspark_jars()]
        return [jar for folder in folders for jar in sorted(folder.glob("*.jar"))]

    def command(self, submission: Submission, properties: Path) -> tuple[list[str], Path | None]:
        """The driver's command line, and the archive that this run is to write, if any."""
        confs = of_one_machine(submission.confs)
        memory = _option(submission.options, "--driver-memory") or confs.get("spark.driver.memory", "1g")
        extra_path = _option(submission.options, "--driver-class-path") or confs.get(
            "spark.driver.extraClassPath"
        )
        user_options = " ".join(
            text
            for text in (
                confs.get("spark.driver.defaultJavaOptions"),
                _option(submission.options, "--driver-java-options")
                or confs.get("spark.driver.extraJavaOptions"),
            )
            if text
        )
        class_path = self.class_path()
        if _wants_delta(confs) and not any(jar.parent == self.jars / "spark" for jar in class_path):
            raise LocaliseError(f"there are no jars in {self.jars / 'spark'}; run `make jars`")
        archive = self._archive(class_path)
        sharing: list[str] = []
        training: Path | None = None
        if archive.exists():
            sharing = [f"-XX:SharedArchiveFile={archive}"]
        elif _wants_delta(confs) and not extra_path and self._claim_training():
            training = archive
            self.archives.mkdir(parents=True, exist_ok=True)
            sharing = [f"-XX:ArchiveClassesAtExit={_part(archive)}"]
        log4j_file = self._log4j
        if submission.log4j:
            log4j_file = properties.with_name("log4j2.properties")
            log4j_file.write_text(log4j.with_overrides(submission.log4j), encoding="utf-8")
        argv = [
            local_jars.java_tool(),
            "-cp",
            os.pathsep.join([*([extra_path] if extra_path else []), *map(str, class_path)]),
            f"-Xmx{memory}",
            *FAST_OPTIONS,
            *sharing,
            f"-Djava.io.tmpdir={properties.parent / 'tmp'}",
            log4j.option(log4j_file),
            *self._module_options(),
            *shlex.split(user_options),
            MAIN,
            "--properties-file",
            str(properties),
            *submission.options,
            submission.entry_point,
            *submission.arguments,
        ]
        properties.write_text("".join(f"{k} {_escape(v)}\n" for k, v in confs.items()), encoding="utf-8")
        return argv, training

    def trained(self, archive: Path, success: bool) -> None:
        """The run that was to write an archive is over."""
        part = _part(archive)
        if success and part.exists():
            for old in self.archives.glob("classes-*.jsa"):
                old.unlink(missing_ok=True)
            part.replace(archive)
        else:
            part.unlink(missing_ok=True)
        with self._lock:
            self._training = False

    def _claim_training(self) -> bool:
        with self._lock:
            if self._training:
                return False
            self._training = True
            return True

    def _archive(self, class_path: list[Path]) -> Path:
        seen = hashlib.sha256(str(Path(local_jars.java_tool()).resolve()).encode())
        for jar in class_path:
            status = jar.stat()
            seen.update(f"{jar} {status.st_size} {status.st_mtime_ns}\n".encode())
        return self.archives / f"classes-{seen.hexdigest()[:16]}.jsa"

    def _module_options(self) -> list[str]:
        """The JVM options Spark's launcher adds (module openings and the like), asked of the launcher itself."""
        with self._lock:
            if self._options is None:
                spark_jars = local_jars.pyspark_jars()
                answer = subprocess.run(
                    [
                        local_jars.java_tool(),
                        "-Xmx128m",
                        "-Xshare:auto",
                        "-XX:TieredStopAtLevel=1",
                        "-cp",
                        f"{spark_jars}/*",
                        "org.apache.spark.launcher.Main",
                        MAIN,
                        "--master",
                        "local",
                        "none",
                    ],
                    env={
                        "PATH": os.environ.get("PATH", ""),
                        "SPARK_HOME": str(spark_jars.parent),
                        "SPARK_SCALA_VERSION": SPARK_SCALA_VERSION,
                        "LC_ALL": UTF8_LOCALE,
                        **{k: os.environ[k] for k in ("JAVA_HOME",) if k in os.environ},
                    },
                    capture_output=True,
                    check=True,
                    timeout=120,
                )
                words = answer.stdout.decode().replace("\n", "\0").split("\0")
                words = words[: words.index(MAIN)]
                with contextlib.suppress(ValueError):
                    at = words.index("-cp")
                    del words[at : at + 2]
                self._options = [w for w in words if w.startswith("-") and not w.startswith("-Xmx")]
            return self._options


def _wants_delta(confs: dict[str, str]) -> bool:
    return DELTA in confs.get("spark.sql.extensions", "")


def _part(archive: Path) -> Path:
    return archive.with_suffix(f".{os.getpid()}.part")


def _option(options: list[str], name: str) -> str | None:
    return options[options.index(name) + 1] if name in options else None


def _escape(value: str) -> str:
    """A value of a Java properties file."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
