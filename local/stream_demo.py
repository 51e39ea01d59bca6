"""`make stream-demo`: the order stream on this machine, some events broken on purpose, and the proof that none is lost.

A lake of its own; the stream started and stopped by the code of the DAG streaming_ingest, as a STREAMING job run of
the local EMR Serverless; test events while it runs. Then: produced = Bronze + DLQ, to the row.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from local import stream_lake
from local.demo import Clock, say
from local.supervisor import ServiceError

#: The stream takes a batch every half minute; two of them pass while the events come.
SECONDS_OF_EVENTS = 40
PATIENCE = 300.0


def demo(count: int, flaw_share: float) -> int:
    """Returns 0 where every event is in exactly one table, once, and the stream ended by itself; 1 otherwise."""
    clock = Clock()
    with clock.step("A lake of its own, in mode stream"):
        running = stream_lake.fresh("stream")
        stream = stream_lake.stream_of(running)
    from common.stream import supervise
    from common.stream_decisions import Asked

    def alert(subject: str, message: str) -> None:
        say(f"{subject}: {message}")

    with clock.step("The supervisor starts the stream"):
        say(supervise(stream, Asked(by_hand=True, who="stream-demo"), alert))
        run_id = stream.see().live[0].id
        for progress in stream_lake.watch(stream, run_id, PATIENCE):
            if progress is not None:
                break
        else:
            return _ended(stream, run_id)
    with clock.step(f"{count:,} events, {flaw_share:.0%} of them broken"):
        rate = str(max(1, count // SECONDS_OF_EVENTS))
        producer = stream_lake.produce("--count", str(count), "--flaw-share", str(flaw_share), "--rate", rate)
        if not _follow(stream, run_id, producer, count):
            producer.terminate()
            producer.communicate()
            return _ended(stream, run_id)
        sent = stream_lake.produced(producer)
    with clock.step("A graceful stop"):
        stop = Asked("stop", by_hand=True, who="stream-demo", reason="the demo is over")
        begun = time.monotonic()
        say(supervise(stream, stop, alert))
        graceful = stream_lake.ended_by_itself(stream)
        how = "by itself" if graceful else "without a word"
        say(
            f"the run ended {stream_lake.state_of(stream, run_id)[0]}, {how}, after {time.monotonic() - begun:.0f} s"
        )
    with clock.step("The proof, read from the tables"):
        counts = stream_lake.count(running)
        problems = stream_lake.prove(counts, sent)
        if not graceful:
            problems.append(
                f"the stream did not end by itself when stopped: {stream_lake.logs(stream, run_id)}"
            )
        say(f"produced {sent['produced']:>8,}  = {sent['good']:,} good + {sent['flawed']:,} broken")
        say(f"Bronze   {counts.bronze:>8,}")
        say(f"DLQ      {counts.dlq:>8,}  {', '.join(f'{what} {n}' for what, n in counts.reasons)}")
    print("\nWhere the time went")
    print("\n".join(clock.lines()))
    if problems:
        print("\nNot as it should be:\n  " + "\n  ".join(problems), file=sys.stderr)
        return 1
    print(
        f"\nproduced = Bronze + DLQ: {sent['produced']:,} = {counts.bronze:,} + {counts.dlq:,}, every record once.\n"
        "The stream is stopped, its stack is up; `make demo` makes the sample's lake the current one again."
    )
    return 0


def _follow(stream: Any, run_id: str, producer: Any, count: int) -> bool:
    """A line for every batch, until all is read; False where the run ended."""
    shown: object = None
    for progress in stream_lake.watch(stream, run_id, PATIENCE):
        if progress is None or progress.get("batch_id") in (None, shown):
            continue
        shown, rows, refused = progress["batch_id"], progress["total_rows"], progress["total_rejected"]
        say(
            f"batch {shown:>3}  {progress['rows']:>6,} events  {progress['rejected']:>4,} refused  "
            f"{progress['seconds']:>5.1f} s   so far {rows - refused:>6,} in Bronze, {refused:>5,} in the DLQ"
        )
        if rows >= count or producer.poll() not in (None, 0):
            return True
    return False


def _ended(stream: Any, run_id: str) -> int:
    state, details = stream_lake.state_of(stream, run_id)
    print(
        f"\nThe stream ended {state}: {details}\nIts output: {stream_lake.logs(stream, run_id)}",
        file=sys.stderr,
    )
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.stream_demo", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--flaw-share", type=float, default=0.05)
    arguments = parser.parse_args()
    try:
        return demo(arguments.count, arguments.flaw_share)
    except ServiceError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make local-down` stops the stack and the stream", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
