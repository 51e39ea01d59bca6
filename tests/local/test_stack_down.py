"""Commands that need the stack say in one line that it is not running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import BREAKING, DOWN, up
from local.supervisor import ServiceError
from tests.support import REPO, free_port

COMMANDS = {
    "query": ["-m", "local.query", "SELECT 1"],
    "airflow": ["-m", "local.airflow"],
    "table": ["scripts/table.py", "silver.orders"],
    "lineage": ["scripts/lineage.py"],
    "cost": ["scripts/cost.py"],
    "report": ["scripts/report.py"],
    "quarantine": ["scripts/quarantine.py", "list"],
    "emr_submit": ["scripts/emr_submit.py", "recover", "status"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_stack_that_is_down_is_one_line(command: list[str], tmp_path: Path) -> None:
    # As a stack leaves it that was stopped: described, and gone.
    exports = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_DEFAULT_REGION": "eu-central-1"}
    (tmp_path / "stack.json").write_text(json.dumps({"ports": {}, "exports": exports}))
    named = ("AWS_", "LAKE", "EMR_", "LAKEHOUSE_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(named)}

    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPO,
        env=environment | {"LAKEHOUSE_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 1
    assert done.stderr.endswith(f"{DOWN}\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_state_folder_that_would_break_later_is_refused_first(tmp_path: Path) -> None:
    for character in BREAKING:
        state = tmp_path / f"a{character}b"
        with pytest.raises(ServiceError, match="its path may not have"):
            up(state, print)
        assert not state.exists()
