"""`make bench-stream`: how fast the order stream catches up with COUNT events (500,000), and what it needs for that.

The events are in the topic first; then the stream runs with --available-now. Prints the rate, the batches' times, the
peak memory of the driver, and ratios, which say more on another machine than seconds do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import stream_lake
from local.aws.emr_process import image_confs, memory_gb
from local.demo import Clock, say
from local.supervisor import ServiceError

#: All kinds but the huge one, which would measure the network.
FLAWS = (
    "tombstone,not_json,trailing_garbage,bad_utf8,duplicate_keys,missing_order_id,unknown_status,negative_amount,"
    "unparseable_event_ts"
)
PATIENCE = 3600.0
#: Helpers of the launcher that come and go are below.
SMALLEST_MB = 20


@dataclass
class Batches:
    """Rows and seconds of each batch, as the stream told them."""

    rows: dict[int, int] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def note(self, progress: dict[str, Any]) -> bool:
        """True where the batch is news."""
        batch = progress.get("batch_id")
        if batch is None or batch in self.rows:
            return False
        self.rows[batch], self.seconds[batch] = progress["rows"], progress["seconds"]
        return True

    def lines(self, produced: int) -> list[str]:
        """Batch times, and whether the rate holds."""
        times = sorted(self.seconds.values())
        rates = [
            self.rows[b] / self.seconds[b] for b in sorted(self.rows) if self.rows[b] and self.seconds[b]
        ]
        lines = [
            f"batches               {len(times)}: p50 {statistics.median(times):.1f} s, max {times[-1]:.1f} s "
            f"(max / p50 {times[-1] / statistics.median(times):.1f})"
        ]
        if len(rates) > 1:
            lines.append(
                f"sustained             last batches at {statistics.median(rates[len(rates) // 2 :]):,.0f} events/s, "
                f"first at {rates[0]:,.0f}"
            )
        if (told := sum(self.rows.values())) != produced:
            lines.append(f"(times are of {told:,} of {produced:,} events; quicker batches were not seen)")
        return lines


@dataclass
class Memory:
    """Peak resident memory of the processes of one driver, MB by process name."""

    group: Path
    peaks: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """Read what the kernel has noted so far; a process that has just ended keeps what was read before."""
        try:
            leader = json.loads(self.group.read_text()).get("processGroup")
        except (FileNotFoundError, ValueError):
            return
        for stat in Path("/proc").glob("[0-9]*/stat") if leader else ():
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) != leader:
                    continue
                status = dict(
                    line.split(":", 1)
                    for line in stat.with_name("status").read_text().splitlines()
                    if ":" in line
                )
            except (OSError, ValueError):
                continue
            name = f"{status['Name'].strip()} {stat.parent.name}"
            peak = int(status.get("VmHWM", "0").split()[0]) / 1024
            if peak >= SMALLEST_MB:
                self.peaks[name] = peak

    def lines(self) -> list[str]:
        heap = memory_gb(image_confs("")["spark.driver.memory"], 1.0) * 1024
        total = sum(self.peaks.values())
        parts = ", ".join(f"{name.split()[0]} {mb:,.0f}" for name, mb in sorted(self.peaks.items()))
        return [
            f"peak memory           {total:,.0f} MB ({parts}); {total / heap:.1f} × the heap of {heap:,.0f} MB"
        ]


def bench(count: int, flaw_share: float) -> int:
    """Returns 0 where the stream caught up and every event is in one table, once; 1 otherwise."""
    clock = Clock()
    with clock.step("A lake of its own, in mode stream"):
        running = stream_lake.fresh("bench-stream")
        stream = stream_lake.stream_of(running)
    with clock.step(f"{count:,} events into the topic"):
        sent = stream_lake.produced(
            stream_lake.produce("--count", str(count), "--flaw-share", str(flaw_share), "--flaws", FLAWS)
        )
        say(f"{sent['per_second']:,} events/s produced")
    batches = Batches()
    with clock.step("The stream catches up (--available-now)"):
        begun = time.monotonic()
        run_id = stream.start(f"bench-{time.time_ns()}", ["--available-now"])
        memory = Memory(running.state / "emr" / "jobs" / run_id / "job.json")
        for progress in stream_lake.watch(stream, run_id, PATIENCE):
            memory.look()
            if progress is not None and batches.note(progress):
                say(
                    f"batch {progress['batch_id']}: {progress['rows']:,} events in {progress['seconds']:.1f} s"
                )
        ended = time.monotonic()
    state, details = stream_lake.state_of(stream, run_id)
    if state != "SUCCESS" or not batches.rows:
        print(
            f"\nThe stream ended {state}: {details}\nIts output: {stream_lake.logs(stream, run_id)}",
            file=sys.stderr,
        )
        return 1
    counts = stream_lake.count(running)
    problems = stream_lake.prove(counts, sent)
    working = sum(batches.seconds.values())
    print(f"\n{count:,} events, {flaw_share:.0%} of them broken")
    print(f"  rate                  {sum(batches.rows.values()) / working:,.0f} events/s in batches")
    print(
        f"                        {count / (ended - begun):,.0f} events/s from the submission to the end of the run"
    )
    print(
        f"  beside the batches    {ended - begun - working:.0f} of {ended - begun:.0f} s, most of it the start of Spark"
    )
    for line in [*batches.lines(count), *memory.lines()]:
        print(f"  {line}")
    print("\nWhere the time went")
    print("\n".join(clock.lines()))
    if problems:
        print("\nNot as it should be:\n  " + "\n  ".join(problems), file=sys.stderr)
        return 1
    print(f"\nproduced = Bronze + DLQ: {count:,} = {counts.bronze:,} + {counts.dlq:,}, every record once.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.bench_stream", description=__doc__)
    parser.add_argument("--count", type=int, default=500_000)
    parser.add_argument("--flaw-share", type=float, default=0.01)
    arguments = parser.parse_args()
    try:
        return bench(arguments.count, arguments.flaw_share)
    except ServiceError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make local-down` stops the stack and the stream", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
