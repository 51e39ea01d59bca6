#!/usr/bin/env python3
"""Build, ship and roll back what runs on AWS.

    scripts/release.py build [--python]   dist/releases/<id>/ and dist/lambda/<id>/dq_runner.zip, of what is committed,
                                          and dist/python/<id>.tar.gz
    scripts/release.py upload             put it into the code bucket, under its id; what is there is left alone
    scripts/release.py check              whether the one that was built last may be activated: it is no older one
    scripts/release.py activate [ID]      make Airflow use it: DAGs, and last dags/deployment.json
    scripts/release.py rollback           activate the release that was active before
    scripts/release.py list               releases in the bucket, the active one marked, and the DQ runner's zips
    scripts/release.py env                export lines for scripts/emr_submit.sh, of the active release

A release is named by its content and never changed: a job run that was started with it finds all of it until its end,
whatever is deployed meanwhile. Its objects are created and never replaced (the bucket's policy refuses it); before it
is activated, each of them is compared with the digests of its manifest, and the Python packages with the digest that
was recorded before they were first uploaded. Names of buckets and roles come from `terraform output` of terraform/, or
from a file (--deployment); the first line, on stderr, says which environment and bucket that is, and with --environment
another one is refused. With DRY_RUN=1 nothing is written, neither here nor there, and what would be is said.

Activation replaces the DAG files one by one and deployment.json last. Tasks that are queued within these seconds may
read a new DAG and the old release, and a daily run that is under way goes on with the new one. It is therefore refused
while job runs of the daily pipeline are live; --force does it all the same. Nor does the release of an older commit
replace that of a newer one unnoticed: name its ID, or say --older.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "dags")]

from common import roles  # noqa: E402  # the path to it is set just above
from common.names import KNOWN  # noqa: E402
from scripts import archives, runner_package  # noqa: E402
from scripts.archives import zip_bytes  # noqa: E402

DIST = REPO / "dist"
JARS = REPO / ".local" / "jars"
OWN_JAR = "spark/lakehouse-jvm.jar"
MANIFEST = "manifest.json"
#: The commit that a release was first made of, beside its manifest: another commit may hold the same files.
COMMIT = "commit.json"
#: How often a creation is repeated that S3 could not decide because of another.
TRIES = 5
#: The machines of EMR Serverless: Amazon Linux 2023 has glibc 2.34.
PLATFORMS = {
    "X86_64": ("manylinux_2_28_x86_64", "manylinux2014_x86_64"),
    "ARM64": ("manylinux_2_28_aarch64", "manylinux2014_aarch64"),
}
PYTHON = "3.11"
#: In place of a copied interpreter: the image's own, with the archive's packages behind what Spark puts on the path.
LAUNCHER = f"""#!/bin/sh
here="$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)"
PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}$here/site-packages" exec python{PYTHON} "$@"
"""
IGNORED = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", "tests"}
#: What releases are made of, jvm/ by its jar.
SHIPPED = (
    *("src/lakehouse", "schema_definitions", "jobs", "scripts", "config", "emr_configs", "dags", "jvm"),
    *("requirements", "services"),
)
#: Job runs of the pipeline whose days have to be of one release: dags/common/run_ids.py names them by their DAG.
DAILY = "daily_batch_pipeline:"
LIVE = ("SUBMITTED", "QUEUED", "PENDING", "SCHEDULED", "RUNNING")


class ReleaseError(Exception):
    """What cannot be built or shipped, and what to do."""


def dry_run() -> bool:
    return os.environ.get("DRY_RUN", "") not in ("", "0")


# -- build ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkout:
    """The files that a release is made of, by their path from the root of the clone."""

    paths: tuple[str, ...]

    @classmethod
    def of(cls, allow_dirty: bool) -> Checkout:
        """What git tracks, where it is as committed; with ``allow_dirty`` whatever lies there. Raises ReleaseError."""
        if allow_dirty:
            found = [p for name in SHIPPED for p in sorted((REPO / name).rglob("*")) if p.is_file()]
            return cls(tuple(p.relative_to(REPO).as_posix() for p in found if _wanted(p.relative_to(REPO))))
        changed = _git("status", "--porcelain", "--untracked-files=all", "--", *SHIPPED).splitlines()
        if changed:
            shown = "\n".join(changed[:10] + [f"… {len(changed)} in all"] * (len(changed) > 10))
            raise ReleaseError(
                f"received files that are not as committed:\n{shown}\nexpected a clean checkout, because a release is "
                "what a commit holds: commit, or put them aside; `build --allow-dirty` takes what lies there"
            )
        listed = _git("ls-files", "-z", "--", *SHIPPED).split("\0")
        return cls(tuple(sorted(name for name in listed if name and _wanted(Path(name)))))

    def tree(self, folder: str, prefix: str) -> dict[str, bytes]:
        """Files below a folder, by their name below ``prefix``."""
        return {
            f"{prefix}/{name.removeprefix(folder + '/')}".removeprefix("/"): (REPO / name).read_bytes()
            for name in self.paths
            if name.startswith(f"{folder}/")
        }

    def within(self, folder: str, suffix: str) -> dict[str, bytes]:
        """Files that lie in a folder itself, by their path."""
        return {
            name: (REPO / name).read_bytes()
            for name in self.paths
            if name.rpartition("/")[0] == folder and name.endswith(suffix)
        }


def _wanted(path: Path) -> bool:
    return not IGNORED & set(path.parts[:-1]) and path.suffix != ".pyc"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPO, capture_output=True, text=True)
    except FileNotFoundError:
        raise ReleaseError("git is not on PATH, and it says which files a release is made of") from None
    if done.returncode != 0:
        raise ReleaseError(
            f"git says of {REPO}: {done.stderr.strip()}\nA release is made of what git tracks, in a clone; outside of "
            "one `build --allow-dirty` takes every file that lies there"
        )
    return done.stdout


def library_zip(checkout: Checkout) -> bytes:
    """src/lakehouse and schema_definitions, as --py-files takes them."""
    return zip_bytes(
        checkout.tree("src/lakehouse", "lakehouse")
        | checkout.tree("schema_definitions", "schema_definitions")
    )


def jars() -> dict[str, bytes]:
    """The jars that EMR's image lacks, each checked against jars.sha256; and our own."""
    manifest = ElementTree.parse(REPO / "emr_configs" / "jars.xml")  # nosec B314  # our own file
    names = sorted(
        f"kafka/{one.get('name')}-{one.get('rev')}.jar"
        for one in manifest.iter("dependency")
        if (one.get("conf") or "").split("->")[0] == "kafka"
    )
    sums = {}
    for line in (REPO / "emr_configs" / "jars.sha256").read_text().splitlines():
        if line and not line.startswith("#"):
            digest, name = line.split()
            sums[name] = digest
    found = {}
    for name in [*names, OWN_JAR]:
        path = JARS / name
        if not path.exists():
            raise ReleaseError(f"{path} is missing: `make jars` fetches and builds it")
        found[f"jars/{name}"] = path.read_bytes()
        if name in names and hashlib.sha256(found[f"jars/{name}"]).hexdigest() != sums.get(name):
            raise ReleaseError(f"{path} is not the jar that jars.sha256 names: `make jars` fetches it anew")
    return found


def artefacts(allow_dirty: bool = False) -> dict[str, bytes]:
    """Everything of a release, by its key below releases/<id>/."""
    checkout = Checkout.of(allow_dirty)
    found = {"lib/lakehouse.zip": library_zip(checkout)}
    for folder, suffix in (("jobs", ".py"), ("scripts", ".py"), ("config", ".yaml"), ("emr_configs", "")):
        found |= checkout.within(folder, suffix)
    # DAGs read only what is shipped with them.
    found |= checkout.tree("dags", "dags") | checkout.tree("emr_configs", "dags/emr_configs")
    return found | jars()


def runner_files(allow_dirty: bool = False) -> dict[str, bytes]:
    """What is ours of the zip of the DQ runner (scripts/runner_package.py)."""
    return runner_package.own_files(Checkout.of(allow_dirty).paths, REPO)


def python_id(architecture: str) -> str:
    """Name of the Python archive: what it is made from, so that it is built and uploaded only when that changes."""
    digest = hashlib.sha256((REPO / "requirements" / "emr.txt").read_bytes())
    digest.update(repr((PLATFORMS[architecture], PYTHON, LAUNCHER)).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Release:
    """A release that is built: its id, its folder, and the names of what several releases share."""

    id: str
    folder: Path
    files: dict[str, str]
    python: str
    runner: str

    @property
    def python_key(self) -> str:
        return python_key(self.python)

    @property
    def runner_key(self) -> str:
        return runner_key(self.runner)


def python_key(identity: str) -> str:
    return f"python/{identity}.tar.gz"


def runner_key(identity: str) -> str:
    return f"lambda/{identity}/dq_runner.zip"


def build(architecture: str, with_python: bool, out: Path = DIST, allow_dirty: bool = False) -> Release:
    """Write dist/releases/<id>/; the id is the hash of names and contents. A dry run only works the ids out.

    Packages of others have archives of their own, named by what they are made from: what is there already stays.
    """
    found, runner = artefacts(allow_dirty), runner_files(allow_dirty)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(found.items())}
    requirements = REPO / runner_package.REQUIREMENTS
    shared = {
        "python": python_id(architecture),
        "runner": runner_package.package_id(runner, requirements.read_bytes()),
    }
    manifest = json.dumps({"files": files, **shared}, indent=1, sort_keys=True).encode()
    identity = hashlib.sha256(manifest).hexdigest()[:16]
    release = Release(identity, out / "releases" / identity, files, **shared)
    if dry_run():
        return release
    shutil.rmtree(release.folder, ignore_errors=True)
    for name, data in [*found.items(), (MANIFEST, manifest), (COMMIT, commit())]:
        path = release.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if not (out / release.runner_key).exists():
        runner_package.build(runner, requirements, out / release.runner_key)
    if with_python and not (out / release.python_key).exists():
        build_python(architecture, out / release.python_key)
    (out / "current").write_text(identity)
    return release


def commit() -> bytes:
    """Which commit the clone is at, and when it was made; null outside of one."""
    try:
        sha, at = _git("log", "-1", "--format=%H %cI").split()
    except (ReleaseError, ValueError):
        return json.dumps(None).encode()
    return json.dumps(
        {"commit": sha, "committed_at": datetime.fromisoformat(at).astimezone(UTC).isoformat()}
    ).encode()


def build_python(architecture: str, target: Path) -> None:
    """The packages of requirements/emr.txt as wheels of the runtime's platform, with a launcher as bin/python."""
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site-packages"
        archives.install(REPO / "requirements" / "emr.txt", site, PYTHON, PLATFORMS[architecture])
        members = {f"site-packages/{name}": (data, 0o644) for name, data in archives.installed(site)}
        members["bin/python"] = (LAUNCHER.encode(), 0o755)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        archives.write_tar(part, members)
        part.replace(target)


def built(out: Path = DIST) -> Release:
    """The release that was built last."""
    try:
        identity = (out / "current").read_text()
        folder = out / "releases" / identity
        manifest = json.loads((folder / MANIFEST).read_text())
        runner = manifest["runner"]
    except (FileNotFoundError, KeyError):
        raise ReleaseError("nothing is built: scripts/build_zip.sh") from None
    return Release(identity, folder, manifest["files"], manifest["python"], runner)


# -- ship -----------------------------------------------------------------------------------------------------


#: What shipping needs to know; to look whether it may, two of them do, and an older deployment says no more.
NEEDED = ("CODE_BUCKET", "LAKE_BUCKET", "EMR_APPLICATION_ID", *roles.SETTINGS, "ENVIRONMENT")
TO_LOOK = ("CODE_BUCKET", "ENVIRONMENT")


class NothingDeployed(ReleaseError):
    """Terraform has no outputs yet: nothing runs there."""


def deployment_values(path: Path | None, needed: Sequence[str] = NEEDED) -> dict[str, str]:
    """Names of buckets, application and roles: from a file, or from Terraform's outputs."""
    if path is not None:
        values: dict[str, Any] = json.loads(path.read_text())
    else:
        command = ["terraform", f"-chdir={REPO / 'terraform'}", "output", "-json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            values = json.loads(done.stdout)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            words = getattr(error, "stderr", "") or str(error)
            raise ReleaseError(
                f"terraform output does not answer: {words.strip()}\n`make init` and `make deploy` come first"
            ) from None
    if not values:
        raise NothingDeployed("Terraform has no outputs: `make deploy` first")
    found = dict(values.get("deployment", {}).get("value", values))
    environment = values.get("environment", {})
    found["ENVIRONMENT"] = (
        environment["value"]
        if isinstance(environment, dict) and environment
        else found.get("ENVIRONMENT", "")
    )
    missing = [name for name in needed if not found.get(name)]
    if missing:
        raise ReleaseError(f"the deployment says nothing of {', '.join(missing)}: `make deploy` first")
    return {str(name): str(value) for name, value in found.items()}


def check_environment(values: Mapping[str, str], expected: str | None) -> None:
    """Refuse to ship into another environment than the one that was asked for: the outputs are those of whatever
    backend terraform/ was initialised with last."""
    if expected is not None and values["ENVIRONMENT"] != expected:
        raise ReleaseError(
            f"received outputs of {values['ENVIRONMENT']} (code bucket {values['CODE_BUCKET']}), expected those of "
            f"{expected}: `make init ENV={expected}` first"
        )


_ANOTHER = (
    "is there and is another than the one built here. What is shipped is never replaced: look who put it there "
    "(its versions, CloudTrail), before anything of it is activated"
)


class Bucket:
    """The code bucket."""

    def __init__(self, name: str, region: str | None = None) -> None:
        import boto3

        self.name = name
        self.s3 = boto3.client("s3", region_name=region)

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def holds(self, key: str) -> bool:
        """Whether there is an object of just this name."""
        return key in self.keys(key)

    def get(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            return bytes(self.s3.get_object(Bucket=self.name, Key=key)["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise

    def put(self, key: str, data: bytes) -> None:
        if dry_run():
            print(f"would put s3://{self.name}/{key} ({len(data)} bytes)")
            return
        self.s3.put_object(Bucket=self.name, Key=key, Body=data, ChecksumAlgorithm="SHA256")

    def create(self, key: str, body: bytes | Path) -> None:
        """Create an object; one that is there has to be the same. Raises ReleaseError where it is another."""
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        if dry_run():
            print(f"would create s3://{self.name}/{key} ({size} bytes)")
        elif not self._created(key, body) and self.digest(key) != digest_of(body):
            raise ReleaseError(f"s3://{self.name}/{key} {_ANOTHER}")

    def _created(self, key: str, body: bytes | Path) -> bool:
        """Whether S3 created it; False where the key exists. 409 says that it could not decide: that is asked again."""
        from botocore.exceptions import ClientError

        for left in reversed(range(TRIES)):
            try:
                with open_body(body) as data:
                    self.s3.put_object(
                        Bucket=self.name, Key=key, Body=data, ChecksumAlgorithm="SHA256", IfNoneMatch="*"
                    )
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 412:
                    return False
                if status != 409 or not left:
                    raise
                time.sleep(1)
            else:
                return True
        raise AssertionError("the last try returns or raises")

    def digest(self, key: str) -> str | None:
        """SHA-256 of an object's bytes as they are read; None where there is none."""
        from botocore.exceptions import ClientError

        try:
            body = self.s3.get_object(Bucket=self.name, Key=key)["Body"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        found = hashlib.sha256()
        for chunk in body.iter_chunks(1024 * 1024):
            found.update(chunk)
        return found.hexdigest()

    def delete(self, key: str) -> None:
        if dry_run():
            print(f"would delete s3://{self.name}/{key}")
            return
        self.s3.delete_object(Bucket=self.name, Key=key)


@contextmanager
def open_body(body: bytes | Path) -> Iterator[io.BufferedReader | io.BytesIO]:
    with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as data:
        yield data


def digest_of(body: bytes | Path) -> str:
    with open_body(body) as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def upload(bucket: Bucket, release: Release, out: Path = DIST) -> str:
    """Create what is not there; the manifest last, so that a release with a manifest is whole."""
    base = f"releases/{release.id}"
    is_new = bucket.get(f"{base}/{MANIFEST}") is None
    if is_new:
        for name in release.files:
            bucket.create(f"{base}/{name}", (release.folder / name).read_bytes())
    words = f"{len(release.files)} files" if is_new else "was there already"
    archive = out / release.python_key
    if archive.exists():
        # Its digest first: an archive without one is never activated.
        bucket.create(f"{release.python_key}.sha256", digest_of(archive).encode())
    if not bucket.holds(release.python_key):
        if not archive.exists():
            raise ReleaseError(f"{archive} is neither built nor in the bucket: scripts/build_zip.sh --python")
        bucket.create(release.python_key, archive)
        words += ", and its Python packages"
    upload_runner(bucket, release.runner_key, out / release.runner_key)
    if is_new:
        if bucket.get(f"{base}/{COMMIT}") is None:
            bucket.create(f"{base}/{COMMIT}", (release.folder / COMMIT).read_bytes())
        bucket.create(f"{base}/{MANIFEST}", (release.folder / MANIFEST).read_bytes())
    return f"release {release.id} {'would be ' if dry_run() else ''}in s3://{bucket.name}/{base}/: {words}"


def upload_runner(bucket: Bucket, key: str, archive: Path) -> None:
    """Create the runner's zip; one that is there has to hold the same files, whoever compressed them.

    Raises ReleaseError where it is neither here nor there, or is another.
    """
    there = bucket.holds(key)
    if not archive.exists() and not there:
        raise ReleaseError(f"{archive} is neither built nor in the bucket: scripts/build_zip.sh")
    if not there:
        bucket.create(f"{key}.sha256", digest_of(archive).encode())
        bucket.create(key, archive)
    elif archive.exists() and bucket.digest(key) != digest_of(archive):
        found = bucket.get(key) or b""
        if archives.zip_content(found) != archives.zip_content(archive.read_bytes()):
            raise ReleaseError(f"s3://{bucket.name}/{key} {_ANOTHER}")


def say_runner(key: str, digest: str) -> str:
    """What `dq_runner_package` of the tfvars has to be; ``digest`` as it is recorded, in hex."""
    encoded = base64.b64encode(bytes.fromhex(digest)).decode()
    return f'dq_runner_package = {{ key = "{key}", sha256_base64 = "{encoded}" }}'


def runners(bucket: Bucket) -> list[str]:
    """Every zip of the runner that was uploaded, the newest first, with its day and its line for the tfvars."""
    pages = bucket.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix="lambda/")
    zips = [item for page in pages for item in page.get("Contents", []) if item["Key"].endswith(".zip")]
    zips.sort(key=lambda item: item["LastModified"], reverse=True)
    recorded = [(bucket.get(f"{item['Key']}.sha256") or b"").decode() for item in zips]
    return [
        f"{item['LastModified']:%Y-%m-%d}  {say_runner(item['Key'], digest)}"
        for item, digest in zip(zips, recorded, strict=True)
    ]


def verified(bucket: Bucket, identity: str) -> dict[str, Any]:
    """The manifest of a release of which every object is what it says. Raises ReleaseError naming the others."""
    base = f"releases/{identity}"
    body = bucket.get(f"{base}/{MANIFEST}")
    if body is None:
        raise ReleaseError(
            f"s3://{bucket.name}/{base}/ is no whole release: `scripts/release.py list` says which are"
        )
    if hashlib.sha256(body).hexdigest()[:16] != identity:
        raise ReleaseError(
            f"s3://{bucket.name}/{base}/{MANIFEST} is not the manifest that the name of the release is made of"
        )
    manifest: dict[str, Any] = json.loads(body)
    wanted = {f"{base}/{name}": digest for name, digest in manifest["files"].items()}
    shared = [python_key(manifest["python"])]
    if "runner" in manifest:  # a release may be older than the runner
        shared.append(runner_key(manifest["runner"]))
    wanted |= {key: (bucket.get(f"{key}.sha256") or b"").decode() for key in shared}
    with ThreadPoolExecutor(16) as pool:
        found = dict(zip(wanted, pool.map(bucket.digest, wanted), strict=True))
    wrong = [key for key, digest in wanted.items() if found[key] != digest]
    if wrong:
        shown = "".join(f"\n  s3://{bucket.name}/{key}" for key in wrong[:10])
        raise ReleaseError(
            f"{len(wrong)} of {len(wanted)} objects of release {identity} are missing or not what was uploaded:"
            f"{shown}\nNothing was activated. Bring back the versions that were uploaded, or build another release; "
            "look who wrote the others"
        )
    return manifest


def activate(bucket: Bucket, identity: str, values: dict[str, str]) -> str:
    """Put the release's DAGs where Airflow looks, and last the file that says which release they submit."""
    base = f"releases/{identity}"
    manifest = verified(bucket, identity)
    before = active(bucket)
    wanted = [name for name in manifest["files"] if name.startswith("dags/")]
    for name in wanted:
        data = bucket.get(f"{base}/{name}") or b""
        # Read once more, so compared once more.
        if hashlib.sha256(data).hexdigest() != manifest["files"][name]:
            raise ReleaseError(
                f"s3://{bucket.name}/{base}/{name} changed while it was activated; nothing runs it yet"
            )
        if bucket.get(name) != data:
            bucket.put(name, data)
    bucket.put(
        "dags/deployment.json",
        json.dumps(settings_of(identity, manifest["python"], values), indent=1, sort_keys=True).encode(),
    )
    for key in bucket.keys("dags/"):
        if key not in wanted and key != "dags/deployment.json":
            bucket.delete(key)
    record = {"release": identity, "before": before, "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    if before == identity:
        record |= {"before": json.loads(bucket.get("active.json") or b"{}").get("before")}
    bucket.put("active.json", json.dumps(record | made_of(bucket, identity), indent=1).encode())
    return f"release {identity} {'would be' if dry_run() else 'is'} active (before: {before or 'none'})"


def made_of(bucket: Bucket, identity: str, out: Path = DIST) -> dict[str, str]:
    """The commit of a release and its time: of the one that was built here, else of the one it was first made of."""
    here = out / "releases" / identity / COMMIT
    body = here.read_bytes() if here.exists() else bucket.get(f"releases/{identity}/{COMMIT}")
    found: dict[str, str] | None = json.loads(body or b"null")
    return found or {}


def check_newer(bucket: Bucket, identity: str, out: Path = DIST) -> str:
    """Say what would be replaced. Raises ReleaseError where that is the release of a newer commit.

    A run of an older commit that was waiting, or is started again, would take back what came since, without a word.
    """
    now = json.loads(bucket.get("active.json") or b"{}")
    ours = made_of(bucket, identity, out).get("committed_at")
    theirs = now.get("committed_at")
    # The same release may be of both: what is in terraform/ is no part of it.
    if ours is None or theirs is None or ours >= theirs:
        return f"release {identity} may follow {now.get('release', 'none')}"
    raise ReleaseError(
        f"the active release {now['release']} is of the commit {now['commit'][:12]} of {theirs}, and {identity} of an "
        f"older one, of {ours}: it would take back what came since. If that is meant: `activate {identity}` or --older"
    )


def daily_runs(emr: Any, application: str) -> list[str]:
    """Job runs of the daily pipeline that are live, as "name (state)"."""
    pages = emr.get_paginator("list_job_runs").paginate(applicationId=application, states=list(LIVE))
    runs = (run for page in pages for run in page["jobRuns"])
    return sorted(f"{run['name']} ({run['state']})" for run in runs if run.get("name", "").startswith(DAILY))


def check_idle(values: Mapping[str, str]) -> None:
    """Refuse to change the release under a daily run. Between two of its jobs there is nothing to be seen of it."""
    import boto3

    emr = boto3.client("emr-serverless", region_name=values.get("AWS_REGION"))
    live = daily_runs(emr, values["EMR_APPLICATION_ID"])
    if live:
        raise ReleaseError(
            f"a daily run is under way: {', '.join(live)}. Its next jobs would be those of another release: "
            "wait for its end, or --force"
        )


def settings_of(identity: str, python: str, values: dict[str, str]) -> dict[str, str]:
    """dags/deployment.json: settings of dags/common/settings.py, with what belongs to this release."""
    code = f"{values['CODE_BUCKET']}/releases/{identity}"
    found = {name: value for name, value in values.items() if name != "ENVIRONMENT"}
    return found | {
        "CODE_BUCKET": code,
        "LAKEHOUSE_CONFIG": f"s3://{code}/config/{values['ENVIRONMENT']}.yaml",
        "EMR_PYTHON_ARCHIVE": f"s3://{values['CODE_BUCKET']}/python/{python}.tar.gz",
    }


def active(bucket: Bucket) -> str | None:
    body = bucket.get("active.json")
    return None if body is None else str(json.loads(body)["release"])


def rollback(bucket: Bucket, values: dict[str, str]) -> str:
    body = bucket.get("active.json")
    before = None if body is None else json.loads(body)["before"]
    if before is None:
        raise ReleaseError(
            "no release was active before this one; `scripts/release.py list`, then `activate ID`"
        )
    return activate(bucket, str(before), values)


def settings_in(body: bytes) -> dict[str, object]:
    """What dags/deployment.json holds. Raises ReleaseError where that is no JSON object."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ReleaseError(
            "dags/deployment.json is no JSON object: look who wrote it (its versions), then activate the release again"
        )
    return found


def exports(deployed: Mapping[str, object]) -> list[str]:
    """Lines for a shell. boto3 reads the Region by another name than the AWS command line.

    They are evaluated, by a person with credentials: a name that is no setting is refused, and with it all.
    """
    unknown = sorted(deployed.keys() - KNOWN.keys())
    if unknown:
        raise ReleaseError(
            f"dags/deployment.json holds {', '.join(map(ascii, unknown))}, no setting of dags/common/names.py. It is "
            "of a newer release than this clone (check out its commit), or somebody else wrote it: look at its "
            "versions, then activate the release again"
        )
    values = {name: str(value) for name, value in deployed.items()}
    if values.get("AWS_REGION"):
        values["AWS_DEFAULT_REGION"] = values["AWS_REGION"]
    return [f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items())]


def arguments_of(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deployment", type=Path, help="a file in place of `terraform output -json`")
    parser.add_argument("--environment", choices=("dev", "prod"), help="refuse the outputs of another one")
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build dist/releases/<id>/")
    builder.add_argument("--python", action="store_true", help="build the jobs' Python packages as well")
    builder.add_argument(
        "--platform", choices=sorted(PLATFORMS), default="X86_64", help="of the EMR application"
    )
    builder.add_argument("--allow-dirty", action="store_true", help="what lies there, committed or not")
    commands.add_parser("upload", help="put the built release into the code bucket")
    commands.add_parser("check", help="whether the built release may replace the active one")
    activator = commands.add_parser("activate", help="make a release the one that runs")
    activator.add_argument("id", nargs="?", help="default: the one that was built last")
    activator.add_argument(
        "--older", action="store_true", help="also where the active one is of a newer commit"
    )
    for command in (activator, commands.add_parser("rollback", help="activate the release before")):
        command.add_argument("--force", action="store_true", help="also while a daily run is under way")
    commands.add_parser("list", help="releases in the bucket")
    commands.add_parser("env", help="export lines for scripts/emr_submit.sh")
    return parser.parse_args(argv)


def say_built(release: Release) -> None:
    would = "would be " if dry_run() else ""
    print(f"release {release.id}: {len(release.files)} files {would}in {release.folder.relative_to(REPO)}")
    print(f"Python packages: {release.python_key}")
    print(f"DQ runner: {release.runner_key}")


def ship(arguments: argparse.Namespace) -> None:
    """What is done in an account."""
    looks = arguments.command in ("check", "list")
    try:
        values = deployment_values(arguments.deployment, TO_LOOK if looks else NEEDED)
    except NothingDeployed:
        if arguments.command != "check":
            raise
        print("nothing is deployed yet")
        return
    region = values.get("AWS_REGION")
    # On stderr: what `env` prints is evaluated.
    print(
        f"{values['ENVIRONMENT']}: s3://{values['CODE_BUCKET']} in {region or 'no Region'}", file=sys.stderr
    )
    check_environment(values, arguments.environment)
    bucket = Bucket(values["CODE_BUCKET"], region)
    if arguments.command == "upload":
        print(upload(bucket, built()))
        if not dry_run():
            print(say_runner(built().runner_key, bucket.digest(built().runner_key) or ""))
    elif arguments.command == "check":
        print(check_newer(bucket, built().id))
    elif arguments.command in ("activate", "rollback"):
        if not arguments.force:
            check_idle(values)
        if arguments.command == "activate":
            if not (arguments.id or arguments.older):
                print(check_newer(bucket, built().id))
            print(activate(bucket, arguments.id or built().id, values))
        else:
            print(rollback(bucket, values))
    elif arguments.command == "list":
        current = active(bucket)
        for key in bucket.keys("releases/"):
            if key.endswith(f"/{MANIFEST}"):
                identity = key.split("/")[1]
                print(f"{identity}{'  active' if identity == current else ''}")
        for line in runners(bucket):
            print(line)
    else:
        body = bucket.get("dags/deployment.json")
        if body is None:
            raise ReleaseError("no release is active: `scripts/release.py activate`")
        print("\n".join(exports(settings_in(body))))


def asked(arguments: argparse.Namespace) -> None:
    """`ship`, with what AWS refuses as words."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ModuleNotFoundError:
        raise ReleaseError(
            "this Python has no boto3: `. .venv/bin/activate` first, after `make setup`"
        ) from None
    try:
        ship(arguments)
    except (BotoCoreError, ClientError) as error:
        words = " ".join(str(error).split())
        raise ReleaseError(
            f"AWS refused: {words}. Check `aws sts get-caller-identity` and the Region"
        ) from None


def main(argv: Sequence[str]) -> int:
    arguments = arguments_of(argv)
    try:
        if arguments.command == "build":
            release = build(arguments.platform, arguments.python, allow_dirty=arguments.allow_dirty)
            say_built(release)
        else:
            asked(arguments)
    except (ReleaseError, runner_package.PackageError, archives.NoSuchWheel) as problem:
        print(f"release: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
