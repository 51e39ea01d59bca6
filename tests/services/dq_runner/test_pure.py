"""Settings, rules and scans ask nobody: they import nothing that could."""

from __future__ import annotations

import subprocess
import sys

from tests.support import REPO

BLOCKED = ("boto3", "snowflake", "pyarrow", "pandas", "numpy", "pyspark", "duckdb", "local", "requests")
PROGRAM = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import dq_runner.config, dq_runner.scan, dq_runner.rules.of_table, dq_runner.rules.mutes
"""


def test_the_core_imports_without_any_service() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        env={"PYTHONPATH": ":".join([str(REPO / "services"), str(REPO / "src"), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
