#!/usr/bin/env python3
"""Fetch the jars of emr_configs/jars.xml into .local/jars/, check them, and build the project's own.

Needs Java and PySpark (for the Ivy it carries), nothing else. A second run finds everything in place and fetches
nothing. Afterwards jvm/ is compiled against the fetched jars into .local/jars/spark/.

    scripts/fetch_jars.py                    everything
    scripts/fetch_jars.py --write-checksums  after a change of jars.xml: write jars.sha256 from what was fetched
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from local.jars import JARS, REPO, SetupIncomplete, java_tool, pyspark_jars

MANIFEST = REPO / "emr_configs" / "jars.xml"
SETTINGS = REPO / "emr_configs" / "ivysettings.xml"
CHECKSUMS = REPO / "emr_configs" / "jars.sha256"
CACHE = REPO / ".local" / "ivy"
STAMP = JARS / ".verified"
JVM = REPO / "jvm"
OWN_JAR = "lakehouse-jvm.jar"


def manifest_jars() -> list[str]:
    """The list of `<configuration>/<artifact>-<revision>.jar` for each entry of the manifest."""
    return sorted(
        f"{dependency.attrib['conf'].split('->')[0]}/{dependency.attrib['name']}-{dependency.attrib['rev']}.jar"
        for dependency in ElementTree.parse(MANIFEST).iter("dependency")  # nosec B314  # our own file
    )


def read_checksums() -> dict[str, str]:
    if not CHECKSUMS.exists():
        return {}
    lines = (line.split() for line in CHECKSUMS.read_text().splitlines() if line and not line.startswith("#"))
    return {name: digest for digest, name in lines}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(names: list[str]) -> str:
    """What is in place, by name, size and time: changes when the manifest, the sums or a jar changes."""
    digest = hashlib.sha256(MANIFEST.read_bytes() + CHECKSUMS.read_bytes())
    for name in names:
        status = (JARS / name).stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def in_place(names: list[str]) -> bool:
    try:
        return STAMP.read_text() == stamp_of(names)
    except FileNotFoundError:
        return False


def fetch(configurations: list[str]) -> None:
    """Run Ivy once per configuration, side by side: the time goes in round trips, not in bytes."""
    ivy = next(pyspark_jars().glob("ivy-*.jar"), None)
    if ivy is None:
        raise SetupIncomplete(f"PySpark in {pyspark_jars()} carries no Ivy; reinstall it with `make setup`.")
    java = java_tool()
    running = {}
    for configuration in configurations:
        log = CACHE / f"{configuration}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Divy.home={CACHE}"]
        command += [f"-Divy.cache.dir={CACHE / configuration}", "-cp", str(ivy), "org.apache.ivy.Main"]
        command += ["-settings", str(SETTINGS), "-ivy", str(MANIFEST), "-confs", configuration]
        command += ["-retrieve", f"{JARS}/[conf]/[artifact]-[revision].[ext]"]
        with log.open("w") as output:
            running[configuration] = (subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT), log)
    failed = {name: log for name, (process, log) in running.items() if process.wait() != 0}
    for name, log in failed.items():
        text = log.read_text(errors="replace")
        reason = [line.strip() for line in text.splitlines() if "not found" in line or "xception" in line]
        print(f"  {name}: " + "\n    ".join(reason[-6:] or text.splitlines()[-6:]), file=sys.stderr)
    if failed:
        raise SetupIncomplete(
            f"The jars of {', '.join(failed)} could not be fetched from Maven Central (log: {CACHE}/<name>.log). "
            "Check the network, and behind a proxy set "
            "JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=<host> -Dhttps.proxyPort=<port>'; "
            "then run `make jars` again: what has arrived is kept."
        )


def verify(names: list[str]) -> None:
    expected = read_checksums()
    unlisted = [name for name in names if name not in expected]
    if unlisted:
        raise SetupIncomplete(
            f"{CHECKSUMS.name} has no line for {', '.join(unlisted)}. After a change of jars.xml run "
            "`make jars-lock` and read the diff before committing it."
        )
    wrong = [name for name in names if sha256(JARS / name) != expected[name]]
    for name in wrong:
        (JARS / name).unlink()
        configuration, jar = name.split("/")
        for cached in (CACHE / configuration).rglob(jar):
            cached.unlink()
    if wrong:
        raise SetupIncomplete(
            f"These jars are not the ones {CHECKSUMS.name} names: {', '.join(wrong)}. They have been removed. Run "
            "`make jars` to fetch them again; if it happens again something between you and the registry changes "
            "them, and they must not be used."
        )


def remove_strangers(names: list[str]) -> None:
    """A jar no longer in the manifest would still be on the class path."""
    for jar in JARS.glob("*/*.jar"):
        if f"{jar.parent.name}/{jar.name}" not in names and jar.name != OWN_JAR:
            jar.unlink()


def build_own_jar() -> bool:
    """Compile jvm/ for Java 17 into one jar that carries the hash of its sources as its comment.

    Does nothing, and returns False, where the jar is of these sources already.
    """
    sources = sorted(JVM.rglob("*.java"))
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.relative_to(JVM).as_posix().encode() + b"\0" + source.read_bytes())
    stamp = digest.hexdigest().encode()
    target = JARS / "spark" / OWN_JAR
    if target.exists() and comment_of(target) == stamp:
        return False
    needed = ("delta-storage-", "hadoop-client-api-")
    present = [*(JARS / "spark").glob("*.jar"), *pyspark_jars().glob("*.jar")]
    against = [str(jar) for jar in present if jar.name.startswith(needed)]
    with tempfile.TemporaryDirectory(dir=JARS) as scratch:
        classes = Path(scratch) / "classes"
        command = [
            java_tool("javac"),
            "--release",
            "17",
            "-Xlint:all,-classfile",
            "-Werror",
            "-d",
            str(classes),
        ]
        command += ["-cp", os.pathsep.join(against), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SetupIncomplete(f"javac refused {JVM}:\n{done.stdout}{done.stderr}")
        built = Path(scratch) / OWN_JAR
        with zipfile.ZipFile(built, "w") as jar:
            jar.comment = stamp
            for compiled in sorted(classes.rglob("*.class")):
                # A ZipInfo made by name has a fixed date: the same sources give the same bytes.
                jar.writestr(zipfile.ZipInfo(compiled.relative_to(classes).as_posix()), compiled.read_bytes())
        built.rename(target)
    return True


def comment_of(jar: Path) -> bytes:
    try:
        with zipfile.ZipFile(jar) as archive:
            return archive.comment
    except zipfile.BadZipFile:
        return b""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write-checksums", action="store_true", help="write jars.sha256 from what was fetched"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing where everything is in place")
    arguments = parser.parse_args()
    started = time.monotonic()
    names = manifest_jars()
    try:
        fetched = arguments.write_checksums or not in_place(names)
        if fetched:
            missing = [name for name in names if not (JARS / name).exists()]
            if missing:
                print(
                    f"Fetching {len(missing)} jars (80 MB in all) into {JARS.relative_to(REPO)}/ …",
                    flush=True,
                )
                fetch(sorted({name.split("/")[0] for name in missing}))
            if arguments.write_checksums:
                lines = "".join(f"{sha256(JARS / name)}  {name}\n" for name in names)
                CHECKSUMS.write_text(
                    "# sha256 of every jar of jars.xml; written by `make jars-lock`.\n" + lines
                )
            verify(names)
            remove_strangers(names)
            STAMP.write_text(stamp_of(names))
        built = build_own_jar()
    except SetupIncomplete as problem:
        print(f"fetch_jars: {problem}", file=sys.stderr)
        return 1
    if fetched or built or not arguments.quiet:
        print(f"{len(names) + 1} jars in {JARS.relative_to(REPO)}/ ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
