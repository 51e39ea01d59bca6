"""What is shipped: the same bytes for the same files, whole or not at all, and back by one step."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from common import roles, run_ids
from scripts import archives, release
from scripts.release import Bucket, Release, ReleaseError
from tests.support import REPO

VALUES = {
    "LAKE_BUCKET": "lake",
    "EMR_APPLICATION_ID": "00app",
    **{
        roles.setting(role): f"arn:aws:iam::123456789012:role/lakehouse-dev-emr-{role}" for role in roles.JOBS
    },
    "ENVIRONMENT": "dev",
    "AWS_REGION": "eu-central-1",
}


@pytest.fixture
def bucket(lake: str) -> Bucket:
    """A code bucket of this test's own."""
    return Bucket(lake.removeprefix("s3://"))


@pytest.fixture
def values(bucket: Bucket) -> dict[str, str]:
    return VALUES | {"CODE_BUCKET": bucket.name}


def made(out: Path, **files: str) -> Release:
    """A small release with these DAGs, built into ``out``."""
    found = {f"dags/{name}.py": text.encode() for name, text in files.items()}
    found |= {"scripts/recover.py": b"x", "jobs/a.py": repr(files).encode()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "artefacts", lambda allow_dirty: found)
        patch.setattr(release, "runner_files", lambda allow_dirty: {"main.py": b"runner"})
        patch.setattr(archives, "install", no_packages)
        one = release.build("X86_64", with_python=False, out=out)
    archive = out / one.python_key
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"packages")
    return one


def no_packages(requirements: Path, site: Path, python: str, platforms: Any) -> None:
    """In place of pip, which would ask the network."""
    site.mkdir()


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of what is fetched: jars are the business of test_fetch_jars, packages of test_runner_package."""
    monkeypatch.setattr(release, "jars", lambda: {"jars/spark/lakehouse-jvm.jar": b"jar"})
    monkeypatch.setattr(archives, "install", no_packages)


def test_the_same_files_give_the_same_bytes_and_the_same_name(jars: None, tmp_path: Path) -> None:
    first, second = (
        release.build("X86_64", False, out=tmp_path / name, allow_dirty=True) for name in ("a", "b")
    )
    assert first.id == second.id
    for name in [*first.files, "manifest.json"]:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name
    runners = [(tmp_path / name / one.runner_key).read_bytes() for name, one in (("a", first), ("b", second))]
    assert runners[0] == runners[1]


def test_another_content_is_another_release(tmp_path: Path) -> None:
    assert made(tmp_path, one="1").id != made(tmp_path, one="2").id


def test_a_release_holds_what_a_submission_names(jars: None, tmp_path: Path) -> None:
    one = release.build("X86_64", False, out=tmp_path, allow_dirty=True)
    jobs = {f"jobs/{path.name}" for path in (REPO / "jobs").glob("*.py")}
    assert jobs <= one.files.keys()
    assert {
        "lib/lakehouse.zip",
        "config/prod.yaml",
        "dags/emr_configs/jars.xml",
    } <= one.files.keys()
    assert "dags/common/pools.json" in one.files
    with zipfile.ZipFile(io.BytesIO((one.folder / "lib/lakehouse.zip").read_bytes())) as library:
        names = library.namelist()
    assert {"lakehouse/cli.py", "schema_definitions/silver/orders.yaml"} <= set(names)
    assert not [name for name in [*names, *one.files] if "__pycache__" in name or name.endswith(".pyc")]
    # A jar of our own is in no list of checksums: the manifest is where its content is recorded.
    assert one.files["jars/spark/lakehouse-jvm.jar"] == hashlib.sha256(b"jar").hexdigest()


def test_a_jar_that_is_another_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "JARS", tmp_path)
    with pytest.raises(ReleaseError, match="is missing: `make jars`"):
        release.jars()
    for line in (REPO / "emr_configs" / "jars.sha256").read_text().splitlines():
        name = line.split()[-1]
        if name.startswith("kafka/"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"another")
    with pytest.raises(ReleaseError, match=r"is not the jar that jars\.sha256 names"):
        release.jars()


def test_what_is_built_already_stays(jars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = release.build("X86_64", False, out=tmp_path, allow_dirty=True)

    def asked(*_: Any) -> None:
        raise AssertionError("asked pip for what is there")

    monkeypatch.setattr(archives, "install", asked)
    (tmp_path / one.python_key).parent.mkdir()
    (tmp_path / one.python_key).write_bytes(b"packages")
    assert release.build("X86_64", True, out=tmp_path, allow_dirty=True) == one


def test_a_build_whose_packages_did_not_come_is_none(
    jars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any) -> None:
        raise archives.NoSuchWheel("pip could not install dq_runner.txt")

    monkeypatch.setattr(archives, "install", refused)
    monkeypatch.setattr(release, "DIST", tmp_path)
    with pytest.raises(archives.NoSuchWheel):
        release.build("X86_64", False, out=tmp_path, allow_dirty=True)
    assert list(tmp_path.rglob("dq_runner*")) == []
    with pytest.raises(ReleaseError, match="nothing is built"):
        release.built(tmp_path)


# -- what a release is made of --------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small clone with one commit, in place of this one."""
    for name in ("jobs/a.py", "dags/common/b.py", "config/dev.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "-m", "one")
    monkeypatch.setattr(release, "REPO", tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_a_release_is_made_of_what_git_tracks(clone: Path) -> None:
    (clone / "jobs" / "__pycache__").mkdir()
    (clone / "jobs" / "__pycache__" / "a.pyc").write_bytes(b"")
    (clone / ".gitignore").write_text("__pycache__\n*.local.yaml\n")
    (clone / "config" / "my.local.yaml").write_text("ignored")
    (clone / "notes.txt").write_text("no part of a release")
    assert release.Checkout.of(allow_dirty=False).paths == (
        "config/dev.yaml",
        "dags/common/b.py",
        "jobs/a.py",
    )


@pytest.mark.parametrize("change", ["changed", "untracked", "removed"])
def test_what_is_not_as_committed_is_not_shipped(change: str, clone: Path) -> None:
    if change == "removed":
        (clone / "jobs" / "a.py").unlink()
    else:
        (clone / "jobs" / ("a.py" if change == "changed" else "new.py")).write_text("another")
    with pytest.raises(ReleaseError, match=r"(?s)not as committed:\n.*jobs/.*--allow-dirty"):
        release.Checkout.of(allow_dirty=False)
    assert ("jobs/a.py" in release.Checkout.of(allow_dirty=True).paths) == (change != "removed")
    assert ("jobs/new.py" in release.Checkout.of(allow_dirty=True).paths) == (change == "untracked")


def test_outside_of_a_clone_nothing_is_built_unless_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.py").write_text("x")
    monkeypatch.setattr(release, "REPO", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ReleaseError, match=r"(?s)not a git repository.*outside of one `build --allow-dirty`"):
        release.Checkout.of(allow_dirty=False)
    assert release.Checkout.of(allow_dirty=True).paths == ("jobs/a.py",)


def test_a_zip_does_not_depend_on_who_compresses() -> None:
    with zipfile.ZipFile(io.BytesIO(archives.zip_bytes({"b": b"2" * 99, "a": b"1"}))) as archive:
        found = [
            (one.filename, one.compress_type, one.date_time, one.create_system) for one in archive.infolist()
        ]
    assert found == [(name, zipfile.ZIP_STORED, archives.ZIP_TIME, 3) for name in ("a", "b")]


# -- shipped --------------------------------------------------------------------------------------------------


def test_uploaded_once_and_left_alone_after(bucket: Bucket, tmp_path: Path) -> None:
    one = made(tmp_path, daily="1")
    assert "3 files, and its Python packages" in release.upload(bucket, one, tmp_path)
    first = sorted(bucket.keys(""))
    assert f"releases/{one.id}/manifest.json" in first
    assert one.python_key in first
    assert "was there already" in release.upload(bucket, one, tmp_path)
    assert sorted(bucket.keys("")) == first


def test_an_upload_that_broke_off_is_no_release(
    bucket: Bucket, values: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path, daily="1")
    with monkeypatch.context() as patch:
        real = bucket.create

        def create(key: str, body: bytes | Path) -> None:
            if key.endswith("recover.py"):
                raise ConnectionError
            real(key, body)

        patch.setattr(bucket, "create", create)
        with pytest.raises(ConnectionError):
            release.upload(bucket, one, tmp_path)
    with pytest.raises(ReleaseError, match="no whole release"):
        release.activate(bucket, one.id, values)
    release.upload(bucket, one, tmp_path)
    assert one.id in release.activate(bucket, one.id, values)


def test_without_its_python_packages_nothing_is_complete(bucket: Bucket, tmp_path: Path) -> None:
    one = made(tmp_path, daily="1")
    (tmp_path / one.python_key).unlink()
    with pytest.raises(ReleaseError, match=r"build_zip\.sh --python"):
        release.upload(bucket, one, tmp_path)
    assert bucket.get(f"releases/{one.id}/manifest.json") is None


def test_the_runners_zip_is_uploaded_once_and_its_digest_told(
    account: None,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = made(tmp_path, daily="1")
    monkeypatch.setattr(release, "built", lambda: one)
    monkeypatch.setattr(release.upload, "__defaults__", (tmp_path,))
    assert shipping(bucket, tmp_path, "upload") == 0
    first = capsys.readouterr().out.splitlines()[-1]
    body = bucket.get(one.runner_key) or b""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert first == f'dq_runner_package = {{ key = "{one.runner_key}", sha256_base64 = "{digest}" }}'
    # Built where zlib compresses otherwise: the same files, and what is there stays and is told.
    other = archives.zip_bytes({"main.py": b"runner"})
    assert other != body
    (tmp_path / one.runner_key).write_bytes(other)
    assert shipping(bucket, tmp_path, "upload") == 0
    assert capsys.readouterr().out.splitlines()[-1] == first
    assert bucket.get(one.runner_key) == body
    assert shipping(bucket, tmp_path, "list") == 0
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d  {re.escape(first)}", capsys.readouterr().out.splitlines()[-1])
    # Other files under its name.
    (tmp_path / one.runner_key).write_bytes(archives.zip_bytes({"main.py": b"another"}))
    assert shipping(bucket, tmp_path, "upload") == 1
    assert f"{one.runner_key} is there and is another" in capsys.readouterr().err


def test_a_release_of_before_the_runner_can_be_activated(
    bucket: Bucket, values: dict[str, str], tmp_path: Path
) -> None:
    one = made(tmp_path, daily="1")
    release.upload(bucket, one, tmp_path)
    manifest = json.loads((one.folder / "manifest.json").read_bytes())
    del manifest["runner"]
    body = json.dumps(manifest, indent=1, sort_keys=True).encode()
    old = hashlib.sha256(body).hexdigest()[:16]
    for name in one.files:
        bucket.put(f"releases/{old}/{name}", (one.folder / name).read_bytes())
    bucket.put(f"releases/{old}/manifest.json", body)
    assert old in release.activate(bucket, old, values)


def test_activation_and_the_way_back(bucket: Bucket, values: dict[str, str], tmp_path: Path) -> None:
    old, new = made(tmp_path, daily="old", gone="1"), made(tmp_path, daily="new")
    for one in (old, new):
        release.upload(bucket, one, tmp_path)
    assert "before: none" in release.activate(bucket, old.id, values)
    assert f"before: {old.id}" in release.activate(bucket, new.id, values)
    assert bucket.get("dags/daily.py") == b"new"
    assert bucket.get("dags/gone.py") is None
    assert release.active(bucket) == new.id
    # What an old job run was submitted with is still there, as it was.
    assert bucket.get(f"releases/{old.id}/jobs/a.py") == (old.folder / "jobs/a.py").read_bytes()
    release.rollback(bucket, values)
    assert (bucket.get("dags/daily.py"), bucket.get("dags/gone.py")) == (b"old", b"1")
    assert release.active(bucket) == old.id


def test_there_is_no_way_back_from_the_first(bucket: Bucket, values: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no release was active before"):
        release.rollback(bucket, values)
    one = made(tmp_path, daily="1")
    release.upload(bucket, one, tmp_path)
    release.activate(bucket, one.id, values)
    with pytest.raises(ReleaseError, match="no release was active before"):
        release.rollback(bucket, values)


def test_the_dags_learn_of_a_release_last_and_whole(
    bucket: Bucket, values: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common import settings

    one = made(tmp_path, daily="1")
    release.upload(bucket, one, tmp_path)
    put: list[str] = []
    real = bucket.put
    monkeypatch.setattr(bucket, "put", lambda key, data: (put.append(key), real(key, data)))
    release.activate(bucket, one.id, values)
    assert put.index("dags/deployment.json") > put.index("dags/daily.py")
    deployed = json.loads(bucket.get("dags/deployment.json") or b"")
    assert deployed.keys() <= settings.KNOWN.keys()
    assert deployed["AWS_REGION"] == "eu-central-1"
    assert deployed["CODE_BUCKET"] == f"{bucket.name}/releases/{one.id}"
    assert deployed["LAKEHOUSE_CONFIG"] == f"s3://{bucket.name}/releases/{one.id}/config/dev.yaml"
    assert bucket.get(deployed["EMR_PYTHON_ARCHIVE"].removeprefix(f"s3://{bucket.name}/")) == b"packages"


def test_a_dry_run_writes_nothing(
    bucket: Bucket,
    values: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = made(tmp_path, daily="1"), made(tmp_path, daily="2")
    monkeypatch.setenv("DRY_RUN", "1")
    assert f"release {one.id} would be in s3://" in release.upload(bucket, one, tmp_path)
    assert bucket.keys("") == []
    assert f"would create s3://{bucket.name}/releases/{one.id}/dags/daily.py" in capsys.readouterr().out
    monkeypatch.delenv("DRY_RUN")
    release.upload(bucket, one, tmp_path)
    release.activate(bucket, one.id, values)
    release.upload(bucket, other, tmp_path)
    monkeypatch.setenv("DRY_RUN", "1")
    before = bucket.keys("")
    assert release.activate(bucket, other.id, values).startswith(
        f"release {other.id} would be active (before: {one.id}"
    )
    assert (bucket.keys(""), bucket.get("dags/daily.py")) == (before, b"1")


def test_a_dry_build_writes_nothing_and_knows_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("DRY_RUN", "1")
        dry = made(tmp_path / "dry", daily="1")
    assert dry.id == made(tmp_path / "real", daily="1").id
    assert not (tmp_path / "dry" / "releases").exists()
    assert not (tmp_path / "dry" / "current").exists()


def test_what_is_there_and_is_another_is_never_replaced(bucket: Bucket, tmp_path: Path) -> None:
    one = made(tmp_path, daily="1")
    for key in (f"releases/{one.id}/jobs/a.py", f"{one.python_key}.sha256"):
        bucket.put(key, b"somebody else's")
        with pytest.raises(ReleaseError, match="is there and is another than the one built here"):
            release.upload(bucket, one, tmp_path)
        assert bucket.get(key) == b"somebody else's"
        assert bucket.get(f"releases/{one.id}/manifest.json") is None
        bucket.delete(key)
    release.upload(bucket, one, tmp_path)


@pytest.mark.parametrize(
    ("answers", "tries", "created"),
    [((409, 409), 3, True), ((409,) * 5, 5, None), ((412,), 1, False), ((503,), 1, None)],
)
def test_a_creation_that_s3_could_not_decide_is_asked_again(
    answers: tuple[int, ...],
    tries: int,
    created: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from botocore.exceptions import ClientError

    asked: list[dict[str, Any]] = []
    left = list(answers)

    class S3:
        def put_object(self, **request: Any) -> None:
            # A file has to be read from its beginning each time.
            asked.append(request | {"Body": request["Body"].read()})
            if left:
                answer: Any = {"Error": {}, "ResponseMetadata": {"HTTPStatusCode": left.pop(0)}}
                raise ClientError(answer, "PutObject")

    monkeypatch.setattr(release.time, "sleep", lambda _: None)
    bucket = Bucket.__new__(Bucket)
    bucket.name, bucket.s3 = "code", S3()
    (tmp_path / "file").write_bytes(b"packages")
    if created is None:
        with pytest.raises(ClientError):
            bucket._created("key", tmp_path / "file")
    else:
        assert bucket._created("key", tmp_path / "file") is created
    assert [one["Body"] for one in asked] == [b"packages"] * tries
    assert {one["IfNoneMatch"] for one in asked} == {"*"}


@pytest.mark.parametrize(
    "what", ["jobs/a.py", "dags/daily.py", "manifest.json", "python", "sha256", "runner", "runner.sha256"]
)
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_nothing_of_a_release_that_is_not_what_was_uploaded_is_activated(
    bucket: Bucket, values: dict[str, str], tmp_path: Path, what: str, how: str
) -> None:
    one = made(tmp_path, daily="1")
    release.upload(bucket, one, tmp_path)
    base = f"releases/{one.id}"
    key = {
        "python": one.python_key,
        "sha256": f"{one.python_key}.sha256",
        "runner": one.runner_key,
        "runner.sha256": f"{one.runner_key}.sha256",
    }.get(what, f"{base}/{what}")
    if how == "gone":
        bucket.delete(key)
    else:
        bucket.put(key, b'{"files": {}, "python": "x"}')
    with pytest.raises(ReleaseError) as refused:
        release.activate(bucket, one.id, values)
    assert any(part in str(refused.value) for part in (base, one.python_key, one.runner_key))
    assert bucket.keys("dags/") == []
    assert bucket.get("active.json") is None


def test_an_older_commit_does_not_replace_a_newer_one_unnoticed(
    bucket: Bucket, values: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(at: str, **files: str) -> Release:
        said = {"commit": f"{at[-2:]}" * 20, "committed_at": f"2026-11-{at}T06:00:00+00:00"}
        monkeypatch.setattr(release, "commit", lambda: json.dumps(said).encode())
        one = made(tmp_path, **files)
        release.upload(bucket, one, tmp_path)
        return one

    old, new = of("19", daily="old"), of("20", daily="new")
    release.activate(bucket, new.id, values)
    assert json.loads(bucket.get("active.json") or b"")["commit"] == "20" * 20
    with pytest.raises(
        ReleaseError, match=r"of the commit 202020202020 of 2026-11-20.*older one, of 2026-11-19.*--older"
    ):
        release.check_newer(bucket, old.id, tmp_path)
    assert "may follow" in release.check_newer(bucket, new.id, tmp_path)
    # A revert is a newer commit with older files.
    again = of("21", daily="old")
    assert again.id == old.id
    assert "may follow" in release.check_newer(bucket, again.id, tmp_path)
    # Commits that differ in terraform/ alone make one release; the older one has older infrastructure all the same.
    active = {"release": old.id, "commit": "22" * 20, "committed_at": "2026-11-22T06:00:00+00:00"}
    bucket.put("active.json", json.dumps(active).encode())
    with pytest.raises(ReleaseError, match=r"of 2026-11-22.*older one, of 2026-11-21.*--older"):
        release.check_newer(bucket, again.id, tmp_path)
    # Who names a release means it, and what came before is known to the next.
    release.activate(bucket, old.id, values)
    assert json.loads(bucket.get("active.json") or b"")["committed_at"].startswith("2026-11-19")
    assert "may follow" in release.check_newer(bucket, new.id, tmp_path)


class Emr:
    """Job runs as list_job_runs gives them, in two pages."""

    def __init__(self, *runs: tuple[str, str]) -> None:
        self.runs = [{"id": "x", "name": name, "state": state} for name, state in runs]

    def get_paginator(self, name: str) -> Emr:
        assert name == "list_job_runs"
        return self

    def paginate(self, applicationId: str, states: list[str]) -> list[dict[str, Any]]:
        return [
            {"jobRuns": [run for run in half if run["state"] in states]}
            for half in (self.runs[:1], self.runs[1:])
        ]


def test_a_daily_run_that_is_under_way_is_seen_and_the_stream_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import boto3

    emr = Emr(
        ("order-stream", "RUNNING"),
        ("by-hand:20261120T060000Z:recover", "RUNNING"),
        (run_ids.job_name("daily_batch_pipeline", "scheduled__2026-11-20", "bronze_to_silver"), "QUEUED"),
        ("daily_batch_pipeline:scheduled__2026-11-19:silver_to_gold", "SUCCESS"),
    )
    monkeypatch.setattr(boto3, "client", lambda *_, **__: emr)
    with pytest.raises(
        ReleaseError, match=r"under way: daily_batch_pipeline:.*:bronze_to_silver \(QUEUED\)\. .*--force"
    ):
        release.check_idle(VALUES)
    del emr.runs[2]
    release.check_idle(VALUES)


def test_activation_asks_the_application_and_then_does_it(
    aws: Any, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emr = aws.client("emr-serverless")
    application = emr.create_application(name="one", releaseLabel="emr-spark-8.2.0", type="SPARK")[
        "applicationId"
    ]
    one = made(tmp_path, daily="1")
    release.upload(bucket, one, tmp_path)
    assert shipping(bucket, tmp_path, "activate", one.id, EMR_APPLICATION_ID=application) == 0
    assert f"release {one.id} is active" in capsys.readouterr().out
    assert shipping(bucket, tmp_path, "activate", one.id, EMR_APPLICATION_ID="00gone") == 1
    assert "AWS refused" in capsys.readouterr().err
    assert shipping(bucket, tmp_path, "activate", one.id, "--force", EMR_APPLICATION_ID="00gone") == 0


# -- where --------------------------------------------------------------------------------------------------------


def shipping(bucket: Bucket, tmp_path: Path, *arguments: str, **changed: str) -> int:
    values = VALUES | {"CODE_BUCKET": bucket.name} | changed
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps({"deployment": {"value": values}, "environment": {"value": "dev"}}))
    return release.main(["--deployment", str(file), *arguments])


@pytest.fixture
def account(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a person who has credentials, and no Region of their own."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def test_another_environment_than_the_one_asked_for_is_refused(
    account: None, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shipping(bucket, tmp_path, "--environment", "prod", "list") == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"dev: s3://{bucket.name} in eu-central-1"
    assert (
        f"received outputs of dev (code bucket {bucket.name}), expected those of prod: `make init ENV=prod`"
        in rest[0]
    )
    assert shipping(bucket, tmp_path, "--environment", "dev", "list") == 0


def test_the_lines_for_a_shell_keep_every_value_and_say_the_region(
    account: None, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shipping(bucket, tmp_path, "env") == 1
    assert "no release is active" in capsys.readouterr().err
    strange = "it's $(two) words"
    bucket.put(
        "dags/deployment.json", json.dumps({"AWS_REGION": "eu-central-1", "LAKE_BUCKET": strange}).encode()
    )
    assert shipping(bucket, tmp_path, "env") == 0
    lines = capsys.readouterr().out
    said = 'printf "%s\n" "$AWS_REGION" "$AWS_DEFAULT_REGION" "$LAKE_BUCKET"'
    done = subprocess.run(["bash", "-c", lines + said], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["eu-central-1", "eu-central-1", strange]


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PATH", "X=1; touch /tmp/x; Y", "PROMPT_COMMAND", "AWS_PROFILE"]
)
def test_a_name_that_is_no_setting_is_never_evaluated(
    account: None, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    bucket.put("dags/deployment.json", json.dumps({"LAKE_BUCKET": "lake", name: "evil"}).encode())
    assert shipping(bucket, tmp_path, "env") == 1
    said = capsys.readouterr()
    assert "export" not in said.out
    assert f"dags/deployment.json holds {name!r}, no setting of" in said.err


@pytest.mark.parametrize("body", [b"[]", b"export X=1", b"\xff", b"null"])
def test_settings_that_are_no_object_are_refused_in_words(
    account: None, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: bytes
) -> None:
    bucket.put("dags/deployment.json", body)
    assert shipping(bucket, tmp_path, "env") == 1
    said = capsys.readouterr()
    assert (
        "export" not in said.out
    )  # what a shell would take; other tests may have sent the logs of clients here
    assert "is no JSON object" in said.err


def test_what_aws_refuses_is_said_in_words(
    account: None, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Bucket.__new__(Bucket)
    gone.name = f"{bucket.name}-gone"
    assert shipping(gone, tmp_path, "list") == 1
    assert "release: AWS refused: " in capsys.readouterr().err


def test_terraform_that_has_not_run_is_said(tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    file.write_text(
        json.dumps({"deployment": {"value": {"LAKE_BUCKET": "lake"}}, "environment": {"value": "dev"}})
    )
    with pytest.raises(
        ReleaseError, match="says nothing of CODE_BUCKET, EMR_APPLICATION_ID, EMR_INGEST_ROLE_ARN"
    ):
        release.deployment_values(file)
    with pytest.raises(ReleaseError, match="says nothing of CODE_BUCKET: "):
        release.deployment_values(file, release.TO_LOOK)


def test_before_anything_is_deployed_nothing_newer_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deployment.json"
    file.write_text("{}")
    assert release.main(["--deployment", str(file), "check"]) == 0
    assert "nothing is deployed yet" in capsys.readouterr().out
    assert release.main(["--deployment", str(file), "list"]) == 1


def test_who_ships_needs_boto3_and_nothing_else_of_the_clone() -> None:
    """As .github/workflows/deploy.yml installs it (requirements/deploy.txt)."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['airflow', 'pyspark', 'yaml', 'pydantic', 'lakehouse']))"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; import scripts.release"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    locked = re.findall(
        r"^([a-z0-9.-]+==\S+)", (REPO / "requirements" / "deploy.txt").read_text(), re.MULTILINE
    )
    everything = (REPO / "requirements" / "dev.txt").read_text()
    assert {one.split("==")[0] for one in locked} >= {"boto3", "botocore", "s3transfer"}
    assert [one for one in locked if f"{one} " not in everything] == []


# -- the Python packages ----------------------------------------------------------------------------------------


def members() -> dict[str, tuple[bytes, int]]:
    return {
        "bin/python": (release.LAUNCHER.encode(), 0o755),
        "site-packages/shipped.py": (b"WHERE = 'archive'\n", 0o644),
        "site-packages/both.py": (b"WHERE = 'archive'\n", 0o644),
    }


def test_an_archive_of_the_same_files_is_the_same(tmp_path: Path) -> None:
    archives.write_tar(tmp_path / "a", members())
    archives.write_tar(tmp_path / "b", dict(reversed(members().items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_launcher_finds_the_packages_behind_what_spark_puts_first(tmp_path: Path) -> None:
    archives.write_tar(tmp_path / "a", members())
    environment = tmp_path / "with space" / "environment"
    with tarfile.open(tmp_path / "a") as archive:
        archive.extractall(environment, filter="data")
    spark = tmp_path / "spark"
    spark.mkdir()
    (spark / "both.py").write_text("WHERE = 'spark'\n")
    path = tmp_path / "path"
    path.mkdir()
    (path / f"python{release.PYTHON}").symlink_to(sys.executable)
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", "import shipped, both; print(shipped.WHERE, both.WHERE)"],
        env={"PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": str(spark)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["archive", "spark"], done.stderr


def test_the_archive_is_named_by_what_it_is_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[Any] = {release.python_id("X86_64"), release.python_id("ARM64")}
    monkeypatch.setattr(release, "PYTHON", "3.13")
    names.add(release.python_id("X86_64"))
    assert len(names) == 3
