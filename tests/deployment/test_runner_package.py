"""The DQ runner's zip: what it imports and nothing else, within Lambda's limits, the same for the same files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker

from local import lambda_runtime
from scripts import archives, release, runner_package
from scripts.runner_package import PackageError
from tests.support import REPO, make_runner, required_packages


def made_of(folder: Path, files: dict[str, str]) -> set[str]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return set(runner_package.own_files(files, folder))


HANDLER = "services/dq_runner/run_automatic_dq_checks.py"


def test_it_holds_what_is_imported_wherever_that_is_and_nothing_else(tmp_path: Path) -> None:
    found = made_of(
        tmp_path,
        {
            HANDLER: "def main(event, context):\n    from dq_runner import runner\n",
            "services/dq_runner/__init__.py": "",
            "services/dq_runner/rules/__init__.py": "from .mutes import read\n",
            "services/dq_runner/rules/mutes.py": "from ..names import x\n",
            "services/dq_runner/names.py": "from lakehouse.deep import inner\n",
            "services/dq_runner/py.typed": "",
            "services/dq_dashboard/dq_dashboard.py": "import streamlit\n",
            "src/lakehouse/__init__.py": "",
            "src/lakehouse/deep/__init__.py": "from lakehouse import beside\n",
            "src/lakehouse/deep/inner.py": (
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lakehouse import types\n"
                "else:\n    import lakehouse.otherwise\n"
            ),
            "src/lakehouse/beside.py": "",
            "src/lakehouse/types.py": "",
            "src/lakehouse/otherwise.py": "",
            "src/lakehouse/session.py": "import pyspark\n",
            "config/dq_platform.yaml": "",
            "config/dq_mutes.yaml": "",
            "config/dq_rules/orders.yaml": "",
            "config/prod.yaml": "",
        },
    )
    assert found == {
        "run_automatic_dq_checks.py",
        "dq_runner/__init__.py", "dq_runner/rules/__init__.py", "dq_runner/rules/mutes.py",
        "dq_runner/names.py", "lakehouse/__init__.py", "lakehouse/deep/__init__.py", "lakehouse/deep/inner.py",
        "lakehouse/beside.py", "lakehouse/otherwise.py", "config/dq_platform.yaml", "config/dq_mutes.yaml",
        "config/dq_rules/orders.yaml",
    }  # fmt: skip


def test_without_a_handler_there_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(
        PackageError, match=r"services/dq_runner/run_automatic_dq_checks\.py is not in this checkout"
    ):
        made_of(tmp_path, {"services/dq_runner/__init__.py": ""})


def test_another_content_or_requirement_is_another_package() -> None:
    base = {"run_automatic_dq_checks.py": b"1"}
    ids = {
        runner_package.package_id(own, requirements)
        for own in (base, base | {"dq_runner/x.py": b""}, {"run_automatic_dq_checks.py": b"2"})
        for requirements in (b"a==1", b"a==2")
    }
    assert len(ids) == 6
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


@given(st.dictionaries(st.text("ab/.", min_size=1), st.binary(max_size=200), max_size=5))
def test_a_zip_is_told_by_its_content_whoever_compressed_it(files: dict[str, bytes]) -> None:
    stored = archives.zip_bytes(files)
    deflated = archives.zip_bytes(dict(reversed(files.items())), zipfile.ZIP_DEFLATED)
    assert deflated == archives.zip_bytes(files, zipfile.ZIP_DEFLATED)
    assert archives.zip_content(stored) == archives.zip_content(deflated)
    assert archives.zip_content(archives.zip_bytes(files | {"c": b""})) != archives.zip_content(stored)


@pytest.mark.parametrize("limit", ["ZIP_LIMIT_BYTES", "UNPACKED_LIMIT_BYTES"])
def test_what_lambda_would_not_take_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(runner_package, limit, 100)
    with pytest.raises(PackageError, match=r"Lambda takes .*The largest: large\.py, small\.py"):
        runner_package.write(
            {"small.py": b"x", "large.py": b"x" * 1000}, tmp_path / "lambda" / "dq_runner.zip"
        )
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("sqlglot/parser.py", True),
        ("yaml/_yaml.cpython-312-x86_64-linux-gnu.so", True),
        ("certifi/cacert.pem", True),
        ("pydantic-2.14.3.dist-info/METADATA", True),
        ("pydantic-2.14.3.dist-info/licenses/LICENSE", True),
        ("pydantic-2.14.3.dist-info/REQUESTED", False),
        ("certifi/tests/test_certifi.py", False),
        ("snowflake/connector/nanoarrow_cpp/nanoarrow.c", False),
        ("yaml/__init__.pyi", False),
        ("yaml/__pycache__/nodes.cpython-312.pyc", False),
    ],
)
def test_what_python_never_reads_is_left_out(name: str, needed: bool) -> None:
    assert runner_package.is_needed(name) is needed


# -- this checkout --------------------------------------------------------------------------------------------------


IMPORT_ALL = """
import importlib, json, pathlib, sys, time
task = pathlib.Path.cwd()
for path in [*task.glob("*.py"), *(task / "dq_runner").rglob("*.py"), *(task / "lakehouse").rglob("*.py")]:
    importlib.import_module(".".join(path.relative_to(task).with_suffix("").parts).removesuffix(".__init__"))
print(json.dumps([one.__file__ for one in sys.modules.values() if getattr(one, "__file__", None)]))
"""


def test_it_imports_everything_from_itself_alone(runner_task: Path, tmp_path: Path) -> None:
    image = lambda_runtime.make_image(tmp_path / "image")
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT_ALL],
        cwd=runner_task,
        env={"PYTHONPATH": str(image), "HOME": "/dev/null/no-home", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files = [Path(name) for name in json.loads(done.stdout.splitlines()[-1])]
    library = Path(json.__file__).parents[1]
    strangers = [
        path
        for path in files
        if not path.is_relative_to(runner_task)
        and not path.is_relative_to(image)
        and not path.is_relative_to(library)
    ]
    assert strangers == []
    ours = {path.relative_to(runner_task).parts[0] for path in files if path.is_relative_to(runner_task)}
    assert {"dq_runner", "lakehouse", "snowflake", "pydantic", "yaml"} <= ours


def test_it_holds_the_rules_and_no_other_settings(runner_task: Path) -> None:
    found = {
        path.relative_to(runner_task).as_posix()
        for path in (runner_task / "config").rglob("*")
        if path.is_file()
    }
    rules = {f"config/dq_rules/{path.name}" for path in (REPO / "config" / "dq_rules").iterdir()}
    assert found == {"config/dq_platform.yaml", "config/dq_mutes.yaml"} | rules


def test_it_holds_nothing_of_spark_or_of_tables(runner_task: Path) -> None:
    strangers = ("pandas", "pyarrow", "numpy", "pyspark", "boto3", "botocore")
    assert not [name for name in strangers if (runner_task / name).exists()]
    assert not (runner_task / "lakehouse" / "session.py").exists()


def test_ci_runs_its_tests_on_the_python_of_lambda() -> None:
    job = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["runner"]
    assert runner_package.PYTHON in [step.get("with", {}).get("python-version") for step in job["steps"]]


def test_its_packages_are_pinned_as_everything_is() -> None:
    everything = re.sub(r"\[\w+\]==", "==", (REPO / "requirements" / "dev.txt").read_text())
    assert [one for one in required_packages() if f"\n{one} " not in everything] == []
    # pip asks such a condition of the Python that builds, not of the one on Lambda.
    text = (REPO / runner_package.REQUIREMENTS).read_text()
    for condition in set(re.findall(r" ; (.*?) *\\\n", text)):
        marker = Marker(condition)
        answers = {
            marker.evaluate({"python_full_version": f"{v}.0", "python_version": v}) for v in ("3.11", "3.12")
        }
        assert len(answers) == 1, condition


@pytest.mark.proof
def test_the_package_for_lambda_is_the_same_twice_and_within_the_limits(tmp_path: Path) -> None:
    """By pip, for Lambda's platform: asks the index."""
    own = release.runner_files(allow_dirty=True)
    for name in ("one", "two"):
        runner_package.build(own, REPO / runner_package.REQUIREMENTS, tmp_path / name / "dq_runner.zip")
    one = (tmp_path / "one" / "dq_runner.zip").read_bytes()
    assert one == (tmp_path / "two" / "dq_runner.zip").read_bytes()
    assert len(one) < runner_package.ZIP_LIMIT_BYTES / 2
    compiled = [name for name in archives.zip_content(one) if name.endswith(".so")]
    tag = f"cpython-{runner_package.PYTHON.replace('.', '')}-x86_64-linux-gnu"
    assert len(compiled) > 5
    assert [name for name in compiled if not re.search(rf"\.({tag}|abi3)\.so$|x86_64", name)] == []
    # The tests drive the same files, but for what is compiled.
    here = make_runner(tmp_path / "here")
    pure = {path.relative_to(here).as_posix() for path in here.rglob("*.py")}
    assert {name for name in archives.zip_content(one) if name.endswith(".py")} == pure
