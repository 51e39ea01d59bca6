"""scripts/recover.py: dry without --apply, one message for what is wrong, the exit codes of the jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from lakehouse import store
from lakehouse.errors import GateFailed
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.stream import Progress, write_progress
from lakehouse.runs import new_run_id
from tests.quality.quarantine_support import SHIPMENTS
from tests.recovery.support import Recoverable, shipments
from tests.support import load_script

WHO = ("--apply", "--by", "anna", "--why", "a test")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("recover")


def test_a_person_on_call(
    world: Recoverable, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(world.settings.model_dump(mode="json", exclude_none=True)))

    def do(*command: str, code: int = 0) -> str:
        assert script.main(["--config", str(config), *command]) == code
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return str(told.err if code else told.out)

    run = world.shipments(*shipments("S", 1, 10), *shipments("S", 11, 20, status="GONE"), hours=41)
    with pytest.raises(GateFailed):
        world.certify(run, SHIPMENTS)

    told = do("status")
    assert f"{SHIPMENTS}: run {run} was refused" in told
    assert f"scripts/emr_submit.sh recover recertify --table {SHIPMENTS} --run {run}" in told
    assert "refused rows are open" in told
    assert "your attention" in told

    mine = ("--table", "vendor_shipments", "--run", run)
    told = do("recertify", *mine, code=11)
    rules = told.split("--accept ")[1:]
    accepts = [part for rule in rules for part in ("--accept", rule.split()[0])]
    told = do("recertify", *mine, *accepts)
    assert "Nothing was written" in told
    assert "without --by and --why" in do("recertify", *mine, *accepts, "--apply", code=2)
    told = do("recertify", *mine, *accepts, *WHO)
    recovery = told.split()[1]
    found = outcomes.read(world.settings, recovery, "recover")
    assert found is not None
    assert found.status == "succeeded"
    (row,) = world.logged(recovery)
    assert (row["rows_added"], row["target"]) == (10, f"run {run}")
    verdict = world.known(SHIPMENTS).latest[run]
    assert (verdict.action, verdict.outcome, verdict.by) == ("recertify", "warned", "anna")
    assert set(verdict.accepted) == set(accepts[1::2])
    assert set(accepts[1::2]) <= {rule.name for rule in verdict.rules if not rule.passed}

    told = do("rerun", "--job", "vendor_to_bronze", "--run", run)
    assert "has landed 20 rows: the source is not asked again" in told
    assert f"run {run} succeeded" in do("rerun", "--job", "vendor_to_bronze", "--run", run, *WHO)
    assert world.table(SHIPMENTS).where(f"_run_id = '{run}'").count() == 10

    assert "expected one of bronze." in do("discard", "--table", "nothing", "--run", run, code=2)
    assert "no verdict certified version 0" in do(
        "rollback", "--table", "silver.vendor_shipments", "--to-version", "0", code=10
    )
    assert "ISO 8601" in do("rollback", "--table", "silver.orders", "--to-time", "noon", code=2)
    assert "expected one of apply_contracts" in do("rerun", "--job", "x", "--run", run, code=2)
    assert "a JSON object with an action" in do("from-params", "[]", code=2)

    assert "expected one of --subject SOURCE:ID and --status" in do("erase", code=2)
    assert do("erase", "--status") == "Nobody was erased.\n"
    named = ("--subject", "hubspot:404", "--apply", "--by", "anna", "--why", "404 asked for it")
    assert "with the subject in it" in do("erase", *named, code=2)


def test_a_checkpoint_is_put_aside_unless_the_stream_is_alive(
    world: Recoverable, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(world.settings.model_dump(mode="json", exclude_none=True)))
    topic = world.settings.sources.kafka.topic
    checkpoint = world.settings.kafka_checkpoint_uri
    for name in ("metadata", "offsets/0", "offsets/1"):
        store.put(f"{checkpoint}/{name}", name.encode())
    run = new_run_id(datetime(2026, 3, 2, tzinfo=UTC))
    command = ["--config", str(config), "recover-checkpoint", "--topic", topic, "--run-id", run]
    now = datetime.now(UTC)
    alive = Progress(run_id="r", topic=topic, at=now, alive_at=now, until={}, latest={}, lag={})

    write_progress(world.settings, alive)
    assert script.main(command) == 10
    assert "is alive" in capsys.readouterr().err
    write_progress(world.settings, alive.model_copy(update={"alive_at": now - timedelta(minutes=4)}))
    assert script.main([*command[:-1], new_run_id(now)]) == 0
    assert "3 objects go to" in capsys.readouterr().out
    assert len(store.sizes(f"{checkpoint}/")) == 3

    assert script.main([*command, *WHO]) == 0

    assert store.sizes(f"{checkpoint}/") == {}
    assert store.get(f"{world.settings.lake_uri}/checkpoints/lost/{run}/{topic}/offsets/1") == b"offsets/1"
    (row,) = world.logged(run)
    assert (row["action"], row["table_name"]) == ("recover-checkpoint", topic)
