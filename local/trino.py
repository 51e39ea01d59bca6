"""`make test-athena`: the sample queries on a real Trino, the engine that Athena is made of.

Trino reads the Delta tables of the local S3 through the local Glue. It needs a JDK 24 or newer beside Spark's 17 or 21;
where there is none this says so and does nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from local.aws.athena_words import printed
from local.jars import SetupIncomplete, java_tool, pyspark_jars
from local.supervisor import ServiceSpec

REPO = Path(__file__).resolve().parents[1]
VERSION = "476"
SHA256 = "cfd5accde17e8ebd251eeeb78aed1f490e77bb3a164d95a0f454bf8a7c1cbd3f"
HOME = REPO / ".local" / "trino" / VERSION
JDK = 24
CATALOG = "awsdatacatalog"
# Of 821 MB, what a server with this one connector needs.
KEPT = ("bin", "lib", "plugin/delta-lake")
# Names the JDK to the test, which is skipped where it is not set.
JDK_VARIABLE = "LAKEHOUSE_TRINO_JDK"
JAVA_OPTIONS = (
    "-Xmx1g",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djdk.attach.allowAttachSelf=true",
    "--add-modules=jdk.incubator.vector",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)


class TrinoError(Exception):
    """What Trino says about a query that failed."""


# -- what it needs -------------------------------------------------------------------------------------------


def find_jdk(environ: Mapping[str, str] = os.environ, folders: tuple[Path, ...] | None = None) -> Path | None:
    """The home of a JDK 24 or newer: JAVA_HOME_24, JAVA_HOME, then where systems put theirs, the newest first."""
    named = [Path(environ[name]) for name in (f"JAVA_HOME_{JDK}", "JAVA_HOME") if environ.get(name)]
    found = sorted(_installed() if folders is None else folders, key=_version, reverse=True)
    return next((home for home in [*named, *found] if _version(home) >= JDK and _java(home).exists()), None)


def _installed() -> Iterator[Path]:
    yield from Path("/usr/lib/jvm").glob("*/")
    yield from Path("/opt").glob("*/")
    yield from Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home/")
    yield from Path("/opt/homebrew/opt").glob("openjdk*/libexec/openjdk.jdk/Contents/Home/")
    yield from (Path.home() / ".sdkman" / "candidates" / "java").glob("*/")
    if java := shutil.which("java"):
        yield Path(java).resolve().parents[1]


def _version(home: Path) -> int:
    """The major version by the file `release`, 0 where there is none."""
    try:
        match = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


def _java(home: Path) -> Path:
    return home / "bin" / "java"


def fetch(home: Path = HOME) -> Path:
    """The unpacked server, from Maven Central where it is not there yet (821 MB, of which 338 stay)."""
    if home.is_dir():
        return home
    scratch = home.with_name(f".{home.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    print(f"Fetching Trino {VERSION} (821 MB) into {home.parent} …", flush=True)
    ivy = next(pyspark_jars().glob("ivy-*.jar"), None)
    if ivy is None:
        raise SetupIncomplete(f"PySpark in {pyspark_jars()} carries no Ivy; reinstall it with `make setup`.")
    command = [java_tool(), f"-Divy.home={scratch}/ivy", f"-Divy.cache.dir={scratch}/ivy", "-cp", str(ivy)]
    command += ["org.apache.ivy.Main", "-settings", str(REPO / "emr_configs" / "ivysettings.xml")]
    command += ["-ivy", str(REPO / "local" / "trino.xml"), "-confs", "server"]
    command += ["-retrieve", f"{scratch}/[artifact]-[revision].[ext]"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    archive = scratch / f"trino-server-{VERSION}.tar.gz"
    if done.returncode != 0 or not archive.exists():
        end = "\n".join(done.stdout.splitlines()[-6:])
        raise SetupIncomplete(f"Trino could not be fetched from Maven Central; check the network.\n{end}")
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        shutil.rmtree(scratch)
        raise SetupIncomplete(
            f"received {archive.name} with sha256 {digest}, expected {SHA256}; it was removed."
        )
    unpack(archive, scratch / "server", f"trino-server-{VERSION}/")
    (scratch / "server").rename(home)
    shutil.rmtree(scratch)
    return home


def unpack(archive: Path, target: Path, top: str) -> None:
    """The KEPT folders of the archive. Some of their files are hard links to what comes before, in other plugins."""
    whole = target.with_name(f"{target.name}.whole")
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        kept = [m for m in members if m.name.removeprefix(top).startswith(tuple(f"{k}/" for k in KEPT))]
        origins = {m.linkname for m in kept if m.islnk()}
        tar.extractall(whole, members=[m for m in members if m in kept or m.name in origins], filter="data")
    for folder in KEPT:
        (target / folder).parent.mkdir(parents=True, exist_ok=True)
        (whole / top / folder).rename(target / folder)
    shutil.rmtree(whole)


# -- the server ----------------------------------------------------------------------------------------------


def properties(port: int, state: Path, aws: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The server's files and their settings. The catalog has Athena's name for Glue's."""
    endpoint, region = aws["AWS_ENDPOINT_URL"], aws["AWS_REGION"]
    key, secret = aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"]
    return {
        "node.properties": {
            "node.environment": "local",
            "node.id": "local",
            "node.data-dir": str(state / "data"),
            "node.internal-address": "127.0.0.1",
            "node.bind-ip": "127.0.0.1",
        },
        "config.properties": {
            "coordinator": "true",
            "node-scheduler.include-coordinator": "true",
            "http-server.http.port": str(port),
            "discovery.uri": f"http://127.0.0.1:{port}",
            "web-ui.enabled": "false",
            "http-server.log.enabled": "false",  # it would be written below the working directory
            "query.max-memory-per-node": "256MB",
        },
        "log.properties": {"io.trino": "WARN", "org.eclipse.jetty": "WARN"},
        f"catalog/{CATALOG}.properties": {
            "connector.name": "delta_lake",
            "hive.metastore": "glue",
            "hive.metastore.glue.region": region,
            "hive.metastore.glue.endpoint-url": endpoint,
            "hive.metastore.glue.aws-access-key": key,
            "hive.metastore.glue.aws-secret-key": secret,
            "fs.native-s3.enabled": "true",
            "s3.endpoint": endpoint,
            "s3.region": region,
            "s3.path-style-access": "true",
            "s3.aws-access-key": key,
            "s3.aws-secret-key": secret,
            # A table that was made anew has its name and another history.
            "delta.metadata.cache-ttl": "0s",
            "delta.metadata.live-files.cache-ttl": "0s",
        },
    }


def spec(home: Path, jdk: Path, state: Path, port: int, aws: Mapping[str, str]) -> ServiceSpec:
    """How the supervisor starts it; its files are written below `state`. Ready when it takes queries."""
    etc = state / "etc"
    for name, settings in properties(port, state, aws).items():
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    node = properties(port, state, aws)["node.properties"]
    argv = [str(_java(jdk)), *JAVA_OPTIONS, *(f"-D{k}={v}" for k, v in node.items())]
    argv += [f"-Dconfig={etc}/config.properties", f"-Dlog.levels-file={etc}/log.properties"]
    argv += [f"-Dplugin.dir={home}/plugin", f"-Dcatalog.config-dir={etc}/catalog"]
    argv += ["-cp", f"{home}/lib/*", "io.trino.server.TrinoServer"]

    def ready() -> bool:
        # It takes queries before it has a node to run them on; one that groups needs a node.
        try:
            ask(
                f"http://127.0.0.1:{port}",
                "SELECT state, count(*) FROM system.runtime.nodes GROUP BY state",
                10,
            )
        except (requests.RequestException, TrinoError, ValueError):
            return False
        return True

    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return ServiceSpec("trino", argv, environment, ready)


@dataclass(frozen=True)
class Answer:
    """Column names, and values as Athena prints them (None for NULL)."""

    columns: list[str]
    rows: list[list[str | None]]


def ask(url: str, sql: str, timeout: float = 120.0) -> Answer:
    """Run a statement to its end, by Trino's own protocol. Raises TrinoError."""
    headers = {
        "X-Trino-User": "analyst",
        "X-Trino-Catalog": CATALOG,
        "X-Trino-Schema": "lakehouse_gold",
        "X-Trino-Time-Zone": "UTC",
    }
    end = time.monotonic() + timeout
    page: dict[str, Any] = requests.post(
        f"{url}/v1/statement", sql.encode(), headers=headers, timeout=30
    ).json()
    columns: list[str] = []
    rows: list[list[str | None]] = []
    while True:
        if "error" in page:
            raise TrinoError(f"{page['error']['errorName']}: {page['error']['message']}")
        columns = [column["name"] for column in page.get("columns", [])] or columns
        rows += [[printed(value) for value in row] for row in page.get("data", [])]
        if "nextUri" not in page:
            return Answer(columns, rows)
        if time.monotonic() > end:
            requests.delete(page["nextUri"], headers=headers, timeout=30)
            raise TrinoError(f"no answer within {timeout:.0f} s; the query was stopped")
        page = requests.get(page["nextUri"], headers=headers, timeout=30).json()


def main() -> int:
    jdk = find_jdk()
    if jdk is None:
        print(
            f"test-athena: not run. Trino {VERSION} needs a JDK {JDK} or newer beside Spark's; none was found "
            f"(looked at JAVA_HOME_{JDK}, JAVA_HOME and the usual folders)."
        )
        return 0
    try:
        fetch()
    except SetupIncomplete as problem:
        print(f"test-athena: {problem}", file=sys.stderr)
        return 1
    print(f"The sample queries on Trino {VERSION} with {jdk}", flush=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        str(REPO / "tests" / "athena_queries" / "test_on_trino.py"),
    ]
    return subprocess.run(command, cwd=REPO, env=os.environ | {JDK_VARIABLE: str(jdk)}).returncode


if __name__ == "__main__":
    sys.exit(main())
