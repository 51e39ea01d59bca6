"""The order stream without what keeps it exact: the control of local/kill_stream.py, never a job of anybody's.

Plain appends in place of Delta's transactions, no look at what an interrupted batch left beyond the marks, and every
batch that Spark repeats is written again.
"""

from typing import Any

from lakehouse.cli import main
from lakehouse.flows import stream


def _append(frame: Any, uri: str, app_id: str, version: int, note: str) -> None:
    frame.write.format("delta").mode("append").option("userMetadata", note).save(uri)


def _nothing(self: Any) -> dict[str, dict[str, int]]:
    return {name: {} for name in self._versions()}


if __name__ == "__main__":
    stream.append_once = _append  # type: ignore[attr-defined]
    stream._Stream._beyond_marks = _nothing  # type: ignore[method-assign]
    stream._Stream._is_done = lambda *_: False  # type: ignore[method-assign]
    main("kafka_orders_to_bronze", stream.to_bronze, __doc__, options=stream.options)
