"""The house rules that no single module can keep: who imports whom, and what must load without Spark."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REPO

WITHOUT_SPARK = ["lakehouse.contracts", "lakehouse.settings", "lakehouse.errors", "lakehouse.runs"]
DAGS = sorted((REPO / "dags").glob("*.py"))
BLOCK_SPARK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pyspark", "py4j", "delta"}:
            raise ImportError(f"{name} is not for this module")
sys.meta_path.insert(0, Block())
"""


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(REPO / folder) for folder in ("src", "dags")),
        "AIRFLOW_HOME": str(tmp_path),
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )


def test_directions_of_imports() -> None:
    """The contracts of pyproject.toml, by import-linter."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO / "src"), str(REPO)])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", WITHOUT_SPARK)
def test_loads_without_spark(module: str, tmp_path: Path) -> None:
    done = run(f"{BLOCK_SPARK}\nimport {module}", tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_block_does_block(tmp_path: Path) -> None:
    done = run(f"{BLOCK_SPARK}\nimport lakehouse.session", tmp_path)
    assert "is not for this module" in done.stderr


def test_dags_load_without_spark(tmp_path: Path) -> None:
    assert DAGS, "there are no DAGs to look at"
    imports = "\n".join(f"import {path.stem}" for path in DAGS)
    done = run(f"{BLOCK_SPARK}\n{imports}", tmp_path)
    assert done.returncode == 0, done.stderr


def imported(path: Path) -> Iterator[str]:
    """Top-level names of everything a file imports, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("folder", ["jobs", "dags"])
def test_production_does_not_know_the_local_stack(folder: str) -> None:
    files = sorted((REPO / folder).rglob("*.py"))
    assert files
    assert [path.name for path in files if "local" in imported(path)] == []


def test_dags_need_only_airflow_and_the_amazon_provider() -> None:
    """MWAA's image has those and what they bring."""
    allowed = {"airflow", "common", "botocore", "boto3", "yaml"} | set(sys.stdlib_module_names)
    files = sorted((REPO / "dags").rglob("*.py"))
    assert {path.name: set(imported(path)) - allowed for path in files if set(imported(path)) - allowed} == {}
