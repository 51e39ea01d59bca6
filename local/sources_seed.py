"""Loads a data folder into the running doubles: python -m local seed --data DIR

A file that was loaded before adds nothing, whatever its name is now. A source without a file stays as it is, empty
at first. `withdraw` takes a folder's warehouse orders out again, as a source's owner does with a bad load.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from local import data_layout as layouts
from local.data_files import DataError, DataFile, DataFolder, read
from local.saas.admin import Admin as SaasAdmin
from local.snowflake.admin import Admin as SnowflakeAdmin
from local.snowflake.admin import AdminError

if TYPE_CHECKING:
    from local.stack import Stack

INBOX = "landing/vendor/inbox"
KAFKA_TIMEOUT_S = 60.0

_AFRESH = "to begin again without the old one: make clean, or another LAKEHOUSE_STATE_DIR"

# Source of a layout, for those that the SaaS doubles serve: (service, object).
SAAS = {
    layouts.HUBSPOT_CONTACTS: ("hubspot", "contacts"),
    layouts.SALESFORCE_ACCOUNTS: ("salesforce", "Account"),
    layouts.SALESFORCE_LEADS: ("salesforce", "Lead"),
    layouts.FX_RATES: ("ecb", "rates"),
}


@dataclass
class Loaded:
    """What became of one kind of file."""

    source: str
    files: int = 0
    rows: int = 0
    seconds: float = 0.0
    already: list[str] = field(default_factory=list)


@dataclass
class LoadReport:
    """What a load did; its text is for the terminal."""

    folder: Path
    loaded: list[Loaded] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.loaded)

    def __str__(self) -> str:
        lines = [f"loaded {self.folder}" if self.loaded else str(self.folder)]
        for entry in self.loaded:
            known = f", {len(entry.already)} loaded before" if entry.already else ""
            lines.append(
                f"  {entry.source:20} {entry.rows:>9,} rows of {entry.files} files in {entry.seconds:.1f} s{known}"
            )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def load(data: Path | DataFolder, stack: Stack, sources: Iterable[str] | None = None) -> LoadReport:
    """Load every recognised file of a folder, or what was read of it; with `sources`, only those layouts (by name).

    Raises DataError, before anything is loaded, with all that is wrong with the files.
    """
    chosen = [one for one in layouts.LAYOUTS if sources is None or one.name in set(sources)]
    folder = read(data, chosen) if isinstance(data, Path) else data
    report = LoadReport(folder.path, notes=list(folder.left_out))
    if layouts.FX_RATES in chosen:
        require_rates(folder, lambda: bool(SaasAdmin(stack.exports["LOCAL_ECB_URL"]).state()["ecb.rates"]))
    for layout in chosen:
        files = folder.of(layout)
        if not files:
            report.notes.append(f"no {layout.prefix}*{layout.suffix}: that source is empty")
            continue
        begun = time.monotonic()
        entry = _loader(layout)(files, stack, report.notes)
        entry.seconds = time.monotonic() - begun
        report.loaded.append(entry)
    return report


def require_rates(folder: DataFolder, has_rates: Callable[[], bool]) -> None:
    """The ECB always has rates, and the pipeline refuses one that has none. Raises DataError."""
    if not folder.of(layouts.FX_RATES) and not has_rates():
        raise DataError(
            "received no fx_rates*.csv, expected one: amounts cannot be converted without rates. The ECB's own "
            "eurofxref-hist.csv, renamed to fx_rates_history.csv, will do; docs/sample-data.md has both forms."
        )


def has_rates(state: Path) -> bool:
    """Whether a lake's ECB was ever given rates; its stack need not run."""
    try:
        with closing(sqlite3.connect(f"{(state / 'saas' / 'saas.db').as_uri()}?mode=ro", uri=True)) as found:
            return (
                found.execute("SELECT 1 FROM records WHERE collection = 'ecb.rates'").fetchone() is not None
            )
    except sqlite3.OperationalError:
        return False


Loader = Callable[[list[DataFile], "Stack", list[str]], Loaded]


def _loader(layout: layouts.Layout) -> Loader:
    if layout in SAAS:
        return _load_saas
    return {
        layouts.SNOWFLAKE_ORDERS: _load_snowflake,
        layouts.KAFKA_ORDERS: _load_kafka,
        layouts.VENDOR_SHIPMENTS: _load_vendor,
    }[layout]


def _new(files: list[DataFile], known: Iterable[str], entry: Loaded) -> list[DataFile]:
    """The files not loaded before; of two with the same bytes in one folder, the first."""
    seen = set(known)
    new = []
    for file in files:
        if file.sha256 in seen:
            entry.already.append(file.name)
        else:
            seen.add(file.sha256)
            new.append(file)
    return new


# Sources -------------------------------------------------------------------------------------------------------


def _load_saas(files: list[DataFile], stack: Stack, notes: list[str]) -> Loaded:
    layout = files[0].layout
    service, name = SAAS[layout]
    admin = SaasAdmin(stack.exports[f"LOCAL_{service.upper()}_URL"])
    entry = Loaded(layout.name)
    known = admin.loaded(service, name)
    new = _new(files, known, entry)
    notes += _edited(new, known, "what it says of an id or a day replaces what is there, what it lost stays")
    rows: list[dict[str, Any]] = []
    for file in new:
        rows.extend(file.quotes if layout is layouts.FX_RATES else file.records())
    if layout is layouts.HUBSPOT_CONTACTS:
        notes += _merge_notes(rows)
    if new:
        admin.load(service, name, rows, [{"sha256": file.sha256, "name": file.name} for file in new])
    entry.files, entry.rows = len(new), len(rows)
    return entry


def _edited(new: list[DataFile], known: Mapping[str, str], consequence: str) -> list[str]:
    names = set(known.values())
    return [
        f"{file.name} was loaded before with other content: {consequence}"
        for file in new
        if file.name in names
    ]


def _merge_notes(rows: list[dict[str, Any]]) -> list[str]:
    """HubSpot shows a merge only through the survivor: without one, the contact stays a contact."""
    known = {row["id"] for row in rows}
    lost = [row["id"] for row in rows if row.get("merged_into") and row["merged_into"] not in known]
    if not lost:
        return []
    shown = ", ".join(lost[:5])
    return [
        f"{len(lost)} contacts name in merged_into a contact that is not in the files; they stay unmerged: {shown}"
    ]


def _load_snowflake(files: list[DataFile], stack: Stack, notes: list[str]) -> Loaded:
    admin = _snowflake(stack)
    entry = Loaded(files[0].layout.name)
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    for file in _new(files, admin.loaded(), entry):
        with tempfile.TemporaryDirectory() as folder:
            parquet = Path(folder) / "orders.parquet"
            columns = list(zip(*file.rows, strict=True)) or [()] * len(file.header)
            table = {n: pa.array(cells, pa.string()) for n, cells in zip(file.header, columns, strict=True)}
            pq.write_table(pa.table(table), parquet)
            try:
                result = admin.load(
                    parquet,
                    sha256=file.sha256,
                    name=file.name,
                    rows=len(file.rows),
                    columns=list(file.header),
                    loaded_at=now,
                    path=str(file.path.resolve()),
                )
            except AdminError as problem:
                raise DataError(f"{file.name} was not loaded: {problem}") from None
        if result.get("edited"):
            notes.append(
                f"{file.name} was edited since it was loaded: its {len(file.rows):,} rows take the place of the "
                f"{result['edited']:,} that it had; rows that a run has read stay in the lake"
            )
        if result.get("withdrawn"):
            notes.append(
                f"{file.name} takes the place of {', '.join(result['withdrawn'])}, which lacked a column"
            )
        entry.files += 1
        entry.rows += len(file.rows)
    return entry


def _load_vendor(files: list[DataFile], stack: Stack, notes: list[str]) -> Loaded:
    s3 = stack.client("s3")
    bucket = stack.exports["LAKE_BUCKET"]
    entry = Loaded(files[0].layout.name)
    there: dict[str, str] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{INBOX}/"):
        for found in page.get("Contents", []):
            head = s3.head_object(Bucket=bucket, Key=found["Key"])
            there[found["Key"]] = head["Metadata"].get("sha256", "")
    for file in files:
        key = f"{INBOX}/{file.name}"
        if there.get(key) == file.sha256:
            entry.already.append(file.name)
            continue
        if key in there:
            notes.append(f"{file.name} takes the place of another file of that name in the vendor's inbox")
        s3.put_object(Bucket=bucket, Key=key, Body=file.data, Metadata={"sha256": file.sha256})
        entry.files += 1
        lines = file.data.count(b"\n") + (not file.data.endswith(b"\n"))
        entry.rows += max(0, lines - 1)
    return entry


def _load_kafka(files: list[DataFile], stack: Stack, notes: list[str]) -> Loaded:
    entry = Loaded(files[0].layout.name)
    ledger = stack.state / "saas" / "kafka_loaded.json"
    known: dict[str, str] = json.loads(ledger.read_text(encoding="utf-8")) if ledger.exists() else {}
    new = _new(files, known, entry)
    notes += _edited(new, known, "a topic takes nothing back, so both count; " + _AFRESH)
    if not new:
        return entry
    if "LOCAL_KAFKA_BOOTSTRAP" not in stack.exports:
        raise DataError(f"{new[0].name} needs the Kafka broker, which is not running: `python -m local up`")
    from local.kafka import TOPIC

    producer = _producer(stack)
    for file in new:
        failed: list[str] = []

        def told(error: Any, record: Any, failed: list[str] = failed) -> None:
            if error is not None:
                failed.append(str(error))

        for message in file.messages:
            options: dict[str, Any] = {"headers": list(message.headers)}
            if message.timestamp_ms is not None:
                options["timestamp"] = message.timestamp_ms
            if message.partition is not None:
                options["partition"] = message.partition
            while True:
                try:
                    producer.produce(TOPIC, value=message.value, key=message.key, on_delivery=told, **options)
                    break
                except BufferError:
                    producer.poll(0.5)
            producer.poll(0)
        left = producer.flush(KAFKA_TIMEOUT_S)
        if left or failed:
            raise DataError(
                f"{file.name}: {left + len(failed)} messages were not taken by Kafka: {failed[:1]}"
            )
        # Remembered per file: what was sent is never sent again, but a load killed in a file sends it again.
        known[file.sha256] = file.name
        ledger.parent.mkdir(parents=True, exist_ok=True)
        part = ledger.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(ledger)
        entry.files += 1
        entry.rows += len(file.messages)
    return entry


def _producer(stack: Stack) -> Any:
    from confluent_kafka import Producer

    from local import kafka

    bootstrap = stack.exports["LOCAL_KAFKA_BOOTSTRAP"]
    if not kafka.create_topic(bootstrap, kafka.TOPIC, kafka.PARTITIONS):
        raise DataError(f"Kafka at {bootstrap} does not answer: `python -m local status` says more")
    # Idempotent, so that messages of a key keep the order of the file even where a request is sent again. Not
    # transactional: its markers would take offsets that hold no message.
    return Producer(
        kafka.client_options(bootstrap) | {"enable.idempotence": True, "linger.ms": 20, "log_level": 3}
    )


def _snowflake(stack: Stack) -> SnowflakeAdmin:
    return SnowflakeAdmin(stack.exports["LOCAL_SNOWFLAKE_HOST"], stack.exports["LOCAL_SNOWFLAKE_PORT"])


# Taking back ---------------------------------------------------------------------------------------------------


def withdraw(data_dir: Path, stack: Stack) -> LoadReport:
    """Take the folder's warehouse orders out of Snowflake again; every other source keeps what it got."""
    folder = read(data_dir, (layouts.SNOWFLAKE_ORDERS,))
    report = LoadReport(data_dir)
    rows = _snowflake(stack).withdraw([file.sha256 for file in folder.files])
    report.notes.append(f"withdrew {rows:,} rows from {layouts.SNOWFLAKE_ORDERS.name}")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    from local.stack import running
    from local.supervisor import ServiceError

    parser = argparse.ArgumentParser(prog="python -m local.sources_seed", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder in the layout of data_fixed/")
    parser.add_argument("--withdraw", action="store_true", help="take its warehouse orders out again")
    args = parser.parse_args(argv)
    try:
        stack = running()
        print(withdraw(args.data, stack) if args.withdraw else load(args.data, stack))
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
