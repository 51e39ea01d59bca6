"""scripts/quarantine.py: readable, dry without --apply, personal values masked, one message for what is wrong."""

from __future__ import annotations

import stat
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from lakehouse.flows import replay
from lakehouse.runs import new_run_id
from tests.quality.quarantine_support import (
    EVENTS,
    NOON,
    SHIPMENTS,
    Lake,
    a_shipment,
    an_event,
    write_fix,
)
from tests.support import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("quarantine")


@pytest.fixture
def config(world: Lake, tmp_path: Path) -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(world.settings.model_dump(mode="json", exclude_none=True)))
    return str(path)


def test_the_round_trip_of_an_engineer_on_call(
    world: Lake, config: str, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world.shipments(
        *[a_shipment(n, file="s.csv") for n in range(100, 130)],
        a_shipment(1, file="s.csv", status="Returned", secret_note="Ada Lovelace"),
        a_shipment(2, file="s.csv", status="GONE", cost="-1"),
        a_shipment(3, file="s.csv", status="GONE", cost="-2"),
    )
    events = world.events(b"\xff", an_event(1, currency="eur"), hours=3)

    def do(command: str, *more: str, code: int = 0) -> str:
        assert script.main([command, "--config", config, *more]) == code
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return str(told.err if code else told.out)

    mine = ("--table", "vendor_shipments", "--run", run)
    told = do("list", *mine)
    assert next(line.split() for line in told.splitlines() if "status_known" in line) == [
        SHIPMENTS, "status_known", "3", "0", "0", "0",
    ]  # fmt: skip
    assert "cost_not_negative" in told
    assert "lines agree" in told
    assert do("list", *mine, "--date", "1999-01-01").startswith("No refused rows of this kind")

    told = do("show", *mine, "--reason", "status_known", "--limit", "1")
    assert "status='Returned'" in told
    assert "secret_note='A***'" in told  # no field of the contract: it may be personal
    assert "1 of 3 rows shown" in told

    out = tmp_path / "export.yaml"
    do("export", *mine, "--out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "PERSONAL DATA" in out.read_text()
    assert "cannot be created" in do("export", *mine, "--out", str(out), code=2)
    # As it comes it changes nothing and gives no reason.
    assert "why: received nothing" in do("fix", "--file", str(out), code=2)
    found = yaml.safe_load(out.read_text())
    assert found["rows"][0]["received"]["secret_note"] == "Ada Lovelace"
    found["why"] = "agreed with the vendor"
    found["rows"][0]["set"] = {"status": "RETURNED", "secret_note": "Charles"}
    found["expressions"] = {"cost_not_negative": {"cost": "abs(cast(cost AS decimal(18,2)))"}}
    found["runs"] = [run]
    out.write_text(yaml.safe_dump(found))

    told = do("fix", "--file", str(out))
    assert "status: 'Returned' -> 'RETURNED'" in told
    assert "secret_note: 'A***' -> 'C***'" in told
    assert "cost: '-1' -> '1.00'" in told
    assert "3 changed by the file: 1 would now pass, 2 would still be refused" in told
    assert "--apply --by" in told
    assert world.balance(run) == (3, 3, 0, 0, 0)
    assert "without --by" in do("fix", "--file", str(out), "--apply", code=2)
    do("fix", "--file", str(out), "--apply", "--by", "anna")
    assert world.balance(run) == (3, 0, 3, 0, 0)

    assert "refused again" in do("replay", *mine)
    assert world.balance(run) == (3, 0, 3, 0, 0)
    assert f"{SHIPMENTS}: 1 replayed" in do(
        "replay", *mine, "--apply", "--by", "anna", "--why", "a corrected file"
    )
    assert world.balance(run) == (3, 2, 0, 1, 0)
    assert "none of those asked for is fixed" in do("replay", *mine, "--apply", "--by", "anna")
    told = do("show", *mine, "--status", "replayed")
    assert "fixed by anna: agreed with the vendor" in told
    assert "replayed by anna: a corrected file (run 2" in told

    why = ("--why", "the vendor has no better data")
    assert "no filter" in do("discard", *why, code=2)
    assert "--apply" in do("discard", *mine, *why)
    assert world.balance(run) == (3, 2, 0, 1, 0)
    assert "2 rows are discarded" in do("discard", *mine, *why, "--apply", "--by", "anna")
    assert "No rows to discard" in do("discard", *mine, *why, "--apply", "--by", "anna")
    assert world.balance(run) == (3, 0, 0, 1, 2)

    # Events: bytes that are no text are exported as base64.
    out = tmp_path / "events.yaml"
    do("export", "--table", EVENTS, "--run", events, "--out", str(out))
    first, second = yaml.safe_load(out.read_text())["rows"]
    assert first["received"]["value_base64"] == "/w=="
    assert '"currency": "eur"' in second["received"]["value"]


def test_a_killed_replay_is_finished_first(
    world: Lake, config: str, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world.shipments(a_shipment(1, file="k.csv", status="GONE"))
    world.fix(tmp_path, SHIPMENTS, runs=[run], expressions={"status_known": {"status": "'CREATED'"}})
    killed = new_run_id(NOON)
    replay._begin(world.job(replay.JOB, killed), replay.Request(by="bea", run_id=run))
    base = ["replay", "--config", config, "--run", run]
    assert script.main(base) == 0
    told = capsys.readouterr().out
    assert f"Replay {killed}" in told
    assert "by bea, has not come to an end" in told
    assert script.main([*base, "--apply", "--by", "anna"]) == 0
    assert f"1 replayed as run {killed}" in capsys.readouterr().out
    assert replay.unfinished(world.settings) == ()


def test_a_fix_names_all_that_it_cannot_find(
    world: Lake, config: str, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world.shipments(a_shipment(1, file="w.csv", status="GONE"), a_shipment(2, file="w.csv", cost="-x"))
    events = world.events(b"{", hours=7)
    position = world.rows(run_id=events)[0]["position"]
    one = {"run_id": run, "position": "w.csv:000000001"}
    file = write_fix(
        tmp_path / "fix.yaml",
        SHIPMENTS,
        rows=[
            one | {"set": {"state": "x", "_malformed": None}},
            {"run_id": run, "position": "w.csv:9", "set": {"status": "PAID"}},
            {"run_id": run, "position": "w.csv:000000002", "value": "[]"},
        ],
        expressions={
            "status_known": {"nothing": "'x'", "status": "(SELECT 1)", "cost": "java_method('a', 'b')"}
        },
    )
    assert script.main(["fix", "--config", config, "--file", str(file)]) == 2
    told = capsys.readouterr().err
    for words in (
        "field state: received an unknown field",
        "field _malformed: received an unknown field",
        "position w.csv:9: received no such row",
        "value: received no JSON object",
        "expressions.status_known.nothing: received an unknown field",
        "(ScalarSubquery)",
        "the function java_method",
        "What to do: correct the file; nothing was written",
    ):
        assert words in told
    assert "Traceback" not in told
    # An expression that fails on a row says so without the row's value.
    file = write_fix(
        tmp_path / "fix.yaml",
        SHIPMENTS,
        runs=[run],
        expressions={"cost_parses": {"cost": "cast(cost AS int)"}},
    )
    assert script.main(["fix", "--config", config, "--file", str(file)]) == 2
    told = capsys.readouterr().err
    assert "CAST_INVALID_INPUT" in told
    assert "-x" not in told.replace("--", "")
    # An event that is no object has no fields to set.
    file = write_fix(
        tmp_path / "fix.yaml",
        EVENTS,
        rows=[{"run_id": events, "position": position, "set": {"status": "PAID"}}],
    )
    assert script.main(["fix", "--config", config, "--file", str(file)]) == 2
    assert "the whole event as it should be" in capsys.readouterr().err
    assert set(world.statuses(run_id=run)) == {"open"}


def test_a_row_that_got_lost_breaks_the_balance(
    world: Lake,
    config: str,
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from delta.tables import DeltaTable

    monkeypatch.setattr(world, "emits", True)
    run = world.shipments(a_shipment(1, file="x.csv", status="GONE"))
    table = DeltaTable.forPath(world.spark, world.settings.table_uri("ops.quarantine"))
    version = table.history(1).collect()[0]["version"]
    table.delete(f"run_id = '{run}'")
    try:
        assert script.main(["list", "--config", config]) == 10
        told = capsys.readouterr().err
        assert f"{SHIPMENTS}, run {run}: received 0 refused rows, expected 1" in told
    finally:
        table.restoreToVersion(version)
    assert script.main(["list", "--config", config]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--table", "nothing"], "bronze.vendor_shipments"),
        (["list", "--reason", "nothing"], "status_known"),
        (["list", "--date", "yesterday"], "YYYY-MM-DD"),
        (["export", "--out", "x"], "no --table"),
        (["fix", "--file", "nowhere.yaml"], "cannot be read"),
        (["discard", "--why", " ", "--table", "fx_rates"], "an empty --why"),
    ],
    ids=["table", "reason", "date", "export", "file", "why"],
)
def test_wrong_arguments_are_one_message(
    world: Lake,
    config: str,
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert script.main([arguments[0], "--config", config, *arguments[1:]]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_a_lake_that_cannot_be_reached(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["list", "--config", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
