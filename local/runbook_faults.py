"""What goes wrong before a procedure of the runbook is followed: for each procedure, a fault that really happens.

A fault finds a lake after two certified days. It leaves the lake broken, with the world around it (sources, owners of
secrets) as the text of the procedure says, and returns the values that a person takes from the symptoms.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from local import kafka, sources_seed
from local import runbook_lake as lake
from local.days import AFTER
from local.query import QueryFailed, ask
from local.runbook import DAILY
from local.runbook_lake import COMPARED, DAYS, INGESTS, LakeFailed
from local.saas.admin import Admin as SaasAdmin
from local.stack import REPO, Stack

NEXT_DAY = DAYS + 1
BRONZE_ORDERS = "bronze/kafka_orders/"
SILVER_ORDERS = "silver/orders/"
CHECKPOINTS = "checkpoints/kafka_orders/"
_MIDDLE = f"{SILVER_ORDERS}_delta_log/{1:020}.json"
#: Seconds after which a stream that says nothing counts as dead, and some.
SILENCE = 190.0
Variables = dict[str, str]


@dataclass(frozen=True)
class Fault:
    """How a procedure's fault comes about, and what the lake has to be afterwards.

    ``day``: the uninterrupted day that the end state is compared with, over ``tables``; ``finish``: what the text
    leaves to the next daily run; ``shows``: whether the lake is broken (None: by a difference of its rows);
    ``kafka_mode``: how the lake reads the order topic.
    """

    inject: Callable[[Stack], Variables]
    day: int = NEXT_DAY
    tables: tuple[str, ...] = COMPARED
    finish: Callable[[Stack, Variables], None] = lambda running, variables: None
    shows: Callable[[Stack], bool] | None = None
    kafka_mode: str = "batch"


def _next_day(running: Stack) -> str:
    """The sources have a day more; returns the run that is to bring it."""
    sources_seed.load(lake.sample(running.state, NEXT_DAY), running)
    return lake.run_of(running.state, NEXT_DAY)


def _ran(running: Stack, run: str, *jobs: str) -> None:
    lake.run_jobs(running, [[job, "--run-id", run] for job in jobs])


def _failed(running: Stack, run: str, job: str, code: int) -> None:
    """Run a job that has to end with this exit code."""
    codes = lake.run_jobs(running, [[job, "--run-id", run]], may_fail=True)
    if codes != [code]:
        raise LakeFailed(f"{job} was to fail with {code}, received {codes}")


def _others(job: str) -> list[str]:
    return ["apply_contracts", *(each for each in INGESTS if each != job)]


def _rest(running: Stack, variables: Variables) -> None:
    _ran(running, variables["RUN"], *AFTER)


def _today(running: Stack, _: Variables) -> None:
    """The next daily run."""
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-00000000-0000-0000-0000-999999999999"
    lake.a_day(running, run)


def _exists(running: Stack, prefix: str) -> bool:
    found = running.client("s3").list_objects_v2(
        Bucket=running.exports["LAKE_BUCKET"], Prefix=prefix, MaxKeys=1
    )
    return bool(found.get("KeyCount"))


# An ingest, its gate, Silver ---------------------------------------------------------------------------------------


def failed_ingestion(running: Stack) -> Variables:
    """The warehouse's ingest is killed after it has landed its rows and before Bronze has them all."""
    run, job = _next_day(running), "snowflake_to_bronze"
    _ran(running, run, *_others(job))
    landed = f"landing/snowflake/snowflake_orders/{run}/manifest.json"
    lake.killed(running, [job, "--run-id", run], lambda: _exists(running, landed))
    return {"JOB": job, "RUN": run}


def gate_failed(running: Stack) -> Variables:
    """Too many orders have negative amounts: the Bronze gate refuses. Then the source's owner corrects them."""
    bad = lake.sample(running.state, NEXT_DAY, "shares")
    sources_seed.load(bad, running)
    run = lake.run_of(running.state, NEXT_DAY)
    _ran(running, run, "apply_contracts", *INGESTS)
    _failed(running, run, "dq_check_bronze", 11)
    sources_seed.withdraw(bad, running)
    sources_seed.load(lake.sample(running.state, NEXT_DAY), running)
    return {"TABLE": "bronze.snowflake_orders", "RUN": run}


def accept_rule(running: Stack) -> Variables:
    """As for a failed gate; the owner has the other rows published today, and corrects the wrong ones afterwards."""
    found = gate_failed(running)
    right, wrong = (_orders(lake.sample(running.state, NEXT_DAY, poison)) for poison in (None, "shares"))
    days = sorted(row["EVENT_TS"][:10] for row in right if row not in wrong)
    rules = {"FIRST_RULE": "amount_not_negative", "OTHER_RULE": "rejected_rows"}
    return found | rules | {"FIRST_DAY": days[0], "LAST_DAY": days[-1]}


def _orders(folder: Path) -> list[dict[str, str]]:
    [path] = folder.glob("snowflake_orders_*.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def poisoned_silver(running: Stack) -> Variables:
    """Somebody changes, deletes and adds orders in Silver by hand."""
    orders = "delta.`{lake}/silver/orders`"
    lake.sql(
        running,
        f"UPDATE {orders} SET amount = amount + 1 WHERE substr(order_id, -1) IN ('1', '2')",
        f"DELETE FROM {orders} WHERE substr(order_id, -1) = '3'",
        f"INSERT INTO {orders} BY NAME SELECT concat(order_id, '-X') AS order_id, * EXCEPT (order_id) FROM "
        f"{orders} WHERE substr(order_id, -1) = '4'",
    )
    return {"TABLE": "silver.orders"}


def _wrong_day(running: Stack) -> str:
    """A day whose orders cost a hundred times too much, which no rule catches, is certified and published; then the
    source is corrected. Returns the day's run."""
    right = lake.sample(running.state, NEXT_DAY)
    wrong = right.with_name(f"{right.name}-wrong")
    shutil.copytree(right, wrong, dirs_exist_ok=True)
    [path] = wrong.glob("snowflake_orders_*.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"AMOUNT": _hundredfold(row["AMOUNT"])} for row in rows)
    _declare(wrong, path)
    sources_seed.load(wrong, running)
    run = lake.run_of(running.state, NEXT_DAY)
    lake.a_day(running, run)
    sources_seed.withdraw(wrong, running)
    sources_seed.load(right, running)
    return run


def _hundredfold(amount: str) -> str:
    """An amount without its decimal point; what is no amount stays as it is."""
    try:
        return str(Decimal(amount) * 100)
    except InvalidOperation:
        return amount


def _declare(folder: Path, changed: Path) -> None:
    """The folder's manifest, for a file that has other bytes now."""
    import hashlib

    manifest = folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    data = changed.read_bytes()
    facts["files"][changed.name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.write_text(json.dumps(facts))


def rollback(running: Stack) -> Variables:
    """Orders of the last day are wrong, and were certified and published."""
    before = _silver_version(running)
    run = _wrong_day(running)
    return {"TABLE": "silver.orders", "VERSION": before, "BRONZE": "bronze.snowflake_orders", "RUN": run}


def _silver_version(running: Stack) -> str:
    """The version of silver.orders that was certified last."""
    query = (
        "SELECT version FROM lakehouse_ops.dq_verdicts WHERE table_name = 'silver.orders' "
        "ORDER BY created_at DESC LIMIT 1"
    )
    return str(ask(running, query).rows[0][0])


def watermark(running: Stack) -> Variables:
    """As for a rollback; the run is to be read again from its source."""
    return {"TABLE": "bronze.snowflake_orders", "RUN": _wrong_day(running)}


# Credentials -------------------------------------------------------------------------------------------------------


def _break_secret(running: Stack, source: str, field: str) -> str:
    """Spoil a field of a source's secret; returns what it was, as text."""
    secrets, name = running.client("secretsmanager"), f"lakehouse/{source}/credentials"
    right = str(secrets.get_secret_value(SecretId=name)["SecretString"])
    secrets.put_secret_value(SecretId=name, SecretString=json.dumps(json.loads(right) | {field: "expired"}))
    return right


def _locked_out(running: Stack, job: str, source: str, field: str) -> tuple[str, str]:
    """All of a day is ingested but one source, which refuses the login; returns the run and the right secret."""
    run = _next_day(running)
    _ran(running, run, *_others(job))
    right = _break_secret(running, source, field)
    _failed(running, run, job, 10)
    return run, right


def _with_secret(running: Stack, job: str, source: str, field: str) -> Variables:
    run, right = _locked_out(running, job, source, field)
    path = running.state / f"{source}.json"
    path.write_text(right)
    return {"RUN": run, "SECRET_FILE": str(path)}


def salesforce_token(running: Stack) -> Variables:
    """The secret of the connected app was renewed."""
    return _with_secret(running, "salesforce_to_bronze", "salesforce", "client_secret")


def kafka_sasl(running: Stack) -> Variables:
    """The API key was rotated."""
    return _with_secret(running, "kafka_orders_to_bronze", "kafka", "api_secret")


def leaked_secret(running: Stack) -> Variables:
    """HubSpot's private app has a new token, which the secret does not have yet: the old one is refused."""
    run, job, rotated = _next_day(running), "hubspot_to_bronze", {"token": "rotated"}
    _ran(running, run, *_others(job))
    SaasAdmin(running.exports["LOCAL_HUBSPOT_URL"]).credentials("hubspot", rotated)
    _failed(running, run, job, 10)
    path = running.state / "hubspot.json"
    path.write_text(json.dumps(rotated))
    return {"RUN": run, "SECRET_FILE": str(path)}


def snowflake_login(running: Stack) -> Variables:
    """The key was rotated; the secret is written again as section 2.3 says."""
    run, right = _locked_out(running, "snowflake_to_bronze", "snowflake", "private_key")
    running.client("secretsmanager").put_secret_value(
        SecretId="lakehouse/snowflake/credentials", SecretString=right
    )
    return {"RUN": run}


# FX, catalog, tables -----------------------------------------------------------------------------------------------


def fx_late(running: Stack) -> Variables:
    """The day's rates come after the day was published."""
    right = lake.sample(running.state, NEXT_DAY)
    late = right.with_name(f"{right.name}-late")
    shutil.copytree(right, late, dirs_exist_ok=True)
    [rates] = late.glob("fx_rates_*.csv")
    with rates.open(newline="") as file:
        days = sorted({row[0] for row in list(csv.reader(file))[1:]})
    rates.unlink()
    manifest = json.loads((late / "manifest.json").read_text())
    manifest["files"].pop(rates.name)
    (late / "manifest.json").write_text(json.dumps(manifest))
    sources_seed.load(late, running)
    lake.a_day(running, lake.run_of(running.state, NEXT_DAY))
    sources_seed.load(right, running)
    return {"FIRST_DAY": days[0], "LAST_DAY": days[-1]}


def glue_out_of_step(running: Stack) -> Variables:
    """Somebody removed a table from the catalog."""
    running.client("glue").delete_table(DatabaseName="lakehouse_gold", Name="fact_orders")
    return {}


def _not_in_athena(running: Stack) -> bool:
    try:
        ask(running, "SELECT count(*) FROM lakehouse_gold.fact_orders")
    except QueryFailed:
        return True
    return False


# Objects that are gone ---------------------------------------------------------------------------------------------


def _delete(running: Stack, prefix: str, among: Callable[[str], bool] = lambda key: True) -> None:
    """Delete objects of the lake."""
    s3, bucket = running.client("s3"), running.exports["LAKE_BUCKET"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            if among(found["Key"]):
                s3.delete_object(Bucket=bucket, Key=found["Key"])


def table_dropped(running: Stack) -> Variables:
    """Every object of silver.orders is deleted."""
    _delete(running, SILVER_ORDERS)
    return {"TABLE_PREFIX": SILVER_ORDERS}


def _no_silver_orders(running: Stack) -> bool:
    return not _exists(running, SILVER_ORDERS)


def delta_log(running: Stack) -> Variables:
    """A commit in the middle of silver.orders' log is deleted; the day's promotion cannot read the table."""
    run, job = _next_day(running), "bronze_to_silver"
    _ran(running, run, "apply_contracts", *INGESTS, "dq_check_bronze")
    _delete(running, SILVER_ORDERS, lambda key: key == _MIDDLE)
    _failed(running, run, job, 10)
    return {"TABLE": "silver.orders", "JOB": job, "RUN": run}


def broken_object(running: Stack) -> Variables:
    """The largest data file of silver.orders is garbage, and no version of it is left; the day's promotion stops."""
    run, job = _next_day(running), "bronze_to_silver"
    _ran(running, run, "apply_contracts", *INGESTS, "dq_check_bronze")
    s3, bucket = running.client("s3"), running.exports["LAKE_BUCKET"]
    found = s3.list_objects_v2(Bucket=bucket, Prefix=SILVER_ORDERS)["Contents"]
    files = [each for each in found if each["Key"].endswith(".parquet") and "_delta_log" not in each["Key"]]
    key = max(files, key=lambda each: each["Size"])["Key"]
    for each in s3.list_object_versions(Bucket=bucket, Prefix=key).get("Versions", []):
        s3.delete_object(Bucket=bucket, Key=key, VersionId=each["VersionId"])
    s3.put_object(Bucket=bucket, Key=key, Body=b"garbage")
    _failed(running, run, job, 10)
    return {"TABLE": "silver.orders", "JOB": job, "RUN": run}


def _some_garbage(running: Stack) -> bool:
    s3, bucket = running.client("s3"), running.exports["LAKE_BUCKET"]
    found = s3.list_objects_v2(Bucket=bucket, Prefix=SILVER_ORDERS)["Contents"]
    return any(each["Size"] == len(b"garbage") for each in found)


def _no_middle(running: Stack) -> bool:
    return not _exists(running, _MIDDLE)


def lost_checkpoint(running: Stack) -> Variables:
    """The stream is killed between its writes and its marks, and its checkpoint is deleted."""
    run, job = _next_day(running), "kafka_orders_to_bronze"
    head = _versions(running, BRONZE_ORDERS)
    lake.killed(
        running, [job, "--stream", "--available-now"], lambda: _versions(running, BRONZE_ORDERS) > head
    )
    _delete(running, CHECKPOINTS)
    time.sleep(SILENCE)
    return {"TOPIC": kafka.TOPIC, "RUN": run}


def _versions(running: Stack, table: str) -> int:
    found = running.client("s3").list_objects_v2(
        Bucket=running.exports["LAKE_BUCKET"], Prefix=f"{table}_delta_log/"
    )
    return sum(each["Key"].endswith(".json") for each in found["Contents"])


def _no_checkpoint(running: Stack) -> bool:
    return not _exists(running, CHECKPOINTS)


def _whole_day(running: Stack, variables: Variables) -> None:
    """The daily run, which certifies what the stream read."""
    lake.a_day(running, variables["RUN"])


# Cost --------------------------------------------------------------------------------------------------------------


def cost_spike(running: Stack) -> Variables:
    """Somebody submitted the stream by hand, and closed the terminal: nothing ends it."""
    submit = subprocess.Popen(
        [str(REPO / "scripts" / "emr_submit.sh"), "kafka_orders_to_bronze", "--stream"],
        env=lake.environment(running),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert submit.stdout is not None
    said = submit.stdout.readline()
    os.killpg(submit.pid, signal.SIGKILL)
    submit.wait()
    found = re.search(r"job run (\w+)", said)
    if found is None:
        raise LakeFailed(f"the stream was not submitted: {said!r}")
    return {"JOB_RUN": found[1]}


def _somebody_pays(running: Stack) -> bool:
    runs = running.client("emr-serverless").list_job_runs(
        applicationId=running.exports["EMR_APPLICATION_ID"], states=["SUBMITTED", "SCHEDULED", "RUNNING"]
    )
    return bool(runs["jobRuns"])


def nothing(running: Stack) -> Variables:
    """All is well, and is to stay so."""
    return {"RUN": lake.run_of(running.state, DAYS)}


FAULTS: dict[str, Fault] = {
    DAILY: Fault(nothing, day=DAYS),
    "failed-ingestion": Fault(failed_ingestion),
    "gate-failed": Fault(gate_failed),
    "restore-silver": Fault(poisoned_silver, day=DAYS),
    "rollback": Fault(rollback, finish=_today),
    "watermark": Fault(watermark, finish=_today),
    "salesforce-token": Fault(salesforce_token, finish=_rest),
    "kafka-sasl": Fault(kafka_sasl, finish=_rest),
    "snowflake-connector": Fault(snowflake_login, finish=_rest),
    # A backfill reads the ECB's history, and Silver says so of each quote (publication). Gold has the rates alone.
    "fx-late": Fault(
        fx_late, tables=tuple(each for each in COMPARED if each != "silver.fx_rates"), finish=_today
    ),
    "glue-out-of-step": Fault(glue_out_of_step, day=DAYS, shows=_not_in_athena),
    "table-dropped": Fault(table_dropped, day=DAYS, shows=_no_silver_orders),
    "delta-log": Fault(delta_log, shows=_no_middle),
    "broken-object": Fault(broken_object, shows=_some_garbage),
    "lost-checkpoint": Fault(lost_checkpoint, finish=_whole_day, shows=_no_checkpoint, kafka_mode="stream"),
    "leaked-secret": Fault(leaked_secret, finish=_rest),
    "accept-rule": Fault(accept_rule, finish=_today),
    "cost-spike": Fault(cost_spike, day=DAYS, shows=_somebody_pays, kafka_mode="stream"),
}
