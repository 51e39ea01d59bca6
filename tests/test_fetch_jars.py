"""The jars: what is on the class path is what the manifest names, or the set-up says what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from local.jars import JARS, SetupIncomplete, java_tool
from tests.support import REPO, load_script

MANIFEST = """<ivy-module version="2.0"><info organisation="o" module="m"/><dependencies>
<dependency org="org.example" name="one" rev="1.0" conf="kafka->*"/>
</dependencies></ivy-module>"""
ONE = "kafka/one-1.0.jar"
SHA256_OF_ONE = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # of b"one"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, at work in a folder of its own with a manifest of one jar, and unable to fetch."""
    module = load_script("fetch_jars")
    module.real_fetch = module.fetch  # type: ignore[attr-defined]
    (tmp_path / "jars.xml").write_text(MANIFEST)
    (tmp_path / "jars.sha256").write_text(f"# sums\n{SHA256_OF_ONE}  {ONE}\n")
    for name, path in {
        "REPO": tmp_path,
        "MANIFEST": tmp_path / "jars.xml",
        "CHECKSUMS": tmp_path / "jars.sha256",
        "JARS": tmp_path / "jars",
        "STAMP": tmp_path / "jars" / ".verified",
        "CACHE": tmp_path / "ivy",
    }.items():
        monkeypatch.setattr(module, name, path)
    monkeypatch.setattr(module, "fetch", lambda _: pytest.fail("it went to fetch"))
    monkeypatch.setattr(module, "build_own_jar", lambda: False)
    monkeypatch.setattr(sys, "argv", ["fetch_jars.py", "--quiet"])
    return module


def put(script: ModuleType, name: str, content: bytes) -> Path:
    path: Path = script.JARS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_every_jar_of_the_manifest_has_a_checksum_and_no_other() -> None:
    module = load_script("fetch_jars")
    assert module.manifest_jars() == sorted(module.read_checksums())


def test_what_is_in_place_is_neither_fetched_nor_spoken_of(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    put(script, ONE, b"one")
    assert script.main() == 0
    capsys.readouterr()
    assert script.main() == 0
    assert capsys.readouterr() == ("", "")


def test_another_jar_under_the_name_is_removed_and_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    jar = put(script, ONE, b"something else")
    cached = script.CACHE / "kafka" / "org.example" / "one" / "jars" / "one-1.0.jar"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"something else")
    assert script.main() == 1
    assert f"are not the ones jars.sha256 names: {ONE}" in capsys.readouterr().err
    assert not jar.exists()
    assert not cached.exists(), "the next run would take it from there again"


def test_a_jar_that_changes_after_the_check_is_noticed(script: ModuleType) -> None:
    put(script, ONE, b"one")
    assert script.main() == 0
    put(script, ONE, b"one, replaced")
    assert script.main() == 1


def test_a_new_jar_without_checksum_is_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.CHECKSUMS.write_text("# none\n")
    put(script, ONE, b"one")
    assert script.main() == 1
    error = capsys.readouterr().err
    assert f"has no line for {ONE}" in error
    assert "make jars-lock" in error


def test_a_jar_that_left_the_manifest_leaves_the_class_path(script: ModuleType) -> None:
    put(script, ONE, b"one")
    old, own = put(script, "kafka/one-0.9.jar", b"old"), put(script, f"spark/{script.OWN_JAR}", b"own")
    assert script.main() == 0
    assert not old.exists()
    assert own.exists()


def test_without_a_network_it_says_so(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9")
    shutil.copy(REPO / "emr_configs" / "jars.xml", tmp_path / "jars.xml")
    with pytest.raises(SetupIncomplete, match="The jars of kafka could not be fetched from Maven Central"):
        script.real_fetch(["kafka"])


def test_without_java_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupIncomplete, match="No java on PATH"):
        java_tool()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SetupIncomplete, match=f"No javac under JAVA_HOME .{tmp_path}"):
        java_tool("javac")


class TestOwnJar:
    """The project's own class, built from jvm/."""

    @pytest.fixture
    def build(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        module = load_script("fetch_jars")
        shutil.copytree(REPO / "jvm", tmp_path / "jvm")
        (tmp_path / "jars" / "spark").mkdir(parents=True)
        for jar in (JARS / "spark").glob("delta-storage-*.jar"):
            (tmp_path / "jars" / "spark" / jar.name).symlink_to(jar)
        monkeypatch.setattr(module, "JVM", tmp_path / "jvm")
        monkeypatch.setattr(module, "JARS", tmp_path / "jars")
        return module

    def test_it_is_built_once_and_anew_when_its_source_changes(self, build: ModuleType) -> None:
        assert build.build_own_jar()
        jar = build.JARS / "spark" / build.OWN_JAR
        first = jar.read_bytes()
        assert not build.build_own_jar()
        source = next(build.JVM.rglob("*.java"))
        source.write_text(source.read_text() + "// changed\n")
        assert build.build_own_jar()
        assert jar.read_bytes() != first

    def test_the_same_source_gives_the_same_bytes(self, build: ModuleType) -> None:
        build.build_own_jar()
        jar = build.JARS / "spark" / build.OWN_JAR
        first = jar.read_bytes()
        jar.unlink()
        build.build_own_jar()
        assert jar.read_bytes() == first

    def test_what_javac_refuses_is_shown(self, build: ModuleType) -> None:
        source = next(build.JVM.rglob("*.java"))
        source.write_text(source.read_text().replace("extends HadoopFileSystemLogStore", ""))
        with pytest.raises(SetupIncomplete, match="javac refused"):
            build.build_own_jar()
        assert not (build.JARS / "spark" / build.OWN_JAR).exists()
