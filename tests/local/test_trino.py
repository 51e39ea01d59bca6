"""What `make test-athena` does before Trino runs: which JDK it takes, what it says without one, what it keeps."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from local import trino


def jdk(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch()
    (folder / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    return folder


def test_the_newest_jdk_of_the_usual_folders_is_taken(tmp_path: Path) -> None:
    homes = tuple(jdk(tmp_path / v, v) for v in ("17.0.15", "24.0.1", "25.0.3", "21.0.1"))
    assert trino.find_jdk({}, homes) == tmp_path / "25.0.3"


def test_a_jdk_that_is_named_comes_first_where_it_is_new_enough(tmp_path: Path) -> None:
    old, new, newer = (jdk(tmp_path / v, v) for v in ("17.0.15", "24.0.1", "25.0.3"))
    assert trino.find_jdk({"JAVA_HOME_24": str(new), "JAVA_HOME": str(old)}, (newer,)) == new
    assert trino.find_jdk({"JAVA_HOME": str(old)}, (newer,)) == newer


def test_older_ones_and_empty_folders_do_not_count(tmp_path: Path) -> None:
    assert trino.find_jdk({"JAVA_HOME": str(tmp_path)}, (jdk(tmp_path / "23", "23.0.2"), tmp_path)) is None


def test_without_a_jdk_it_says_so_in_one_line_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trino, "find_jdk", lambda: None)
    assert trino.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("test-athena: not run. Trino 476 needs a JDK 24 or newer")


def test_unpacking_keeps_what_is_needed_though_it_is_linked_to_other_plugins(tmp_path: Path) -> None:
    archive = tmp_path / "server.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("bin/launcher", "lib/a.jar", "plugin/bigquery/shared.jar", "plugin/delta-lake/own.jar"):
            info = tarfile.TarInfo(f"trino/{name}")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("trino/plugin/delta-lake/shared.jar")
        link.type, link.linkname = tarfile.LNKTYPE, "trino/plugin/bigquery/shared.jar"
        tar.addfile(link)
    trino.unpack(archive, tmp_path / "home", "trino/")
    kept = {str(p.relative_to(tmp_path / "home")) for p in (tmp_path / "home").rglob("*") if p.is_file()}
    assert kept == {"bin/launcher", "lib/a.jar", "plugin/delta-lake/own.jar", "plugin/delta-lake/shared.jar"}
    assert (tmp_path / "home/plugin/delta-lake/shared.jar").read_text() == "plugin/bigquery/shared.jar"
    assert not list(tmp_path.glob("*.whole"))


def test_the_server_listens_on_the_loopback_and_writes_below_its_state(tmp_path: Path) -> None:
    aws = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    spec = trino.spec(tmp_path / "home", tmp_path / "jdk", tmp_path / "state", 18080, aws)
    assert spec.argv[0] == str(tmp_path / "jdk/bin/java")
    assert "-Dnode.bind-ip=127.0.0.1" in spec.argv
    assert not any("AWS" in name for name in spec.env)
    catalog = (tmp_path / "state/etc/catalog/awsdatacatalog.properties").read_text().splitlines()
    assert "s3.endpoint=http://127.0.0.1:4566" in catalog
    assert "hive.metastore.glue.endpoint-url=http://127.0.0.1:4566" in catalog
