"""What the stream's demo and benchmark conclude from what they saw."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from local.bench_stream import Batches, Memory
from local.kill_stream import Result
from local.stream_lake import Counts, prove

SENT = {"produced": 2000, "good": 1900, "flawed": 100}


@pytest.mark.parametrize(
    ("bronze", "dlq", "records", "said"),
    [
        pytest.param(1900, 100, 2000, [], id="all there, once"),
        pytest.param(1899, 100, 1999, ["Bronze + DLQ 1,999"], id="one lost"),
        pytest.param(1901, 100, 2000, ["Bronze + DLQ 2,001", "1 rows are of a record"], id="one twice"),
        pytest.param(1901, 99, 2000, ["the DLQ has 99"], id="a broken one in Bronze"),
        pytest.param(1901, 99, 1999, ["1 rows are of", "the DLQ has 99"], id="one lost and one twice"),
    ],
)
def test_the_proof(bronze: int, dlq: int, records: int, said: list[str]) -> None:
    problems = prove(Counts(bronze, dlq, records, []), SENT)
    assert len(problems) == len(said)
    assert all(words in problem for words, problem in zip(said, problems, strict=True))


def progress(batch: int | None, rows: int = 100, seconds: float = 2.0) -> dict[str, object]:
    return {"batch_id": batch, "rows": rows, "seconds": seconds}


def test_every_batch_is_counted_once() -> None:
    batches = Batches()
    news = [batches.note(progress(batch)) for batch in (None, 0, 0, 1, 2, 2)]
    assert news == [False, True, False, True, True, False]
    assert sum(batches.rows.values()) == 300


def test_times_are_told_with_their_ratio_and_what_was_not_seen() -> None:
    batches = Batches()
    for batch, seconds in enumerate([4.0, 2.0, 2.0]):
        batches.note(progress(batch, seconds=seconds))
    text = "\n".join(batches.lines(produced=400))
    assert "3: p50 2.0 s, max 4.0 s (max / p50 2.0)" in text
    assert "last batches at 50 events/s, first at 25" in text
    assert "times are of 300 of 400 events" in text


def test_peak_memory_is_that_of_the_drivers_process_group(tmp_path: Path) -> None:
    record = tmp_path / "job.json"
    memory = Memory(record)
    memory.look()
    assert memory.peaks == {}, "the driver has not begun"
    record.write_text(json.dumps({"processGroup": os.getpgid(0)}))
    memory.look()
    mine = [name for name in memory.peaks if name.endswith(f" {os.getpid()}")]
    assert len(mine) == 1
    assert memory.peaks[mine[0]] > 20
    assert "× the heap of 1,200 MB" in memory.lines()[0]


@pytest.mark.parametrize(
    ("found", "is_exact"),
    [
        pytest.param({}, True, id="all there, once"),
        pytest.param({"lost": 1}, False, id="one lost"),
        pytest.param({"doubled": 1}, False, id="one twice"),
        pytest.param({"dlq": 99, "bronze": 1901}, False, id="a broken one in Bronze"),
    ],
)
def test_what_the_kill_test_concludes(found: dict[str, int], is_exact: bool) -> None:
    result = Result(seed=1, produced=2000, flawed=100, bronze=1900, dlq=100)
    result.landed["between two batches"] += 4
    result.seconds = 60.0
    result = dataclasses.replace(result, **found)
    assert result.is_exact is is_exact
    text = "\n".join(result.lines())
    assert "4 (seed 1), 1.0 minutes, 15 s each" in text
    assert "4 between two batches" in text
