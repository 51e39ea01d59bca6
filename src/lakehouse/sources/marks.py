"""How far the stream has come: one small object a topic, written after a batch is in both of its tables.

Everything before ``until`` is in Bronze or in the DLQ. Beyond it there can be rows of a batch that was interrupted,
in one table or in both; whoever starts there again has to look. The object costs the same however long the stream
runs, and needs neither the tables' history nor the checkpoint.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from lakehouse import store
from lakehouse.settings import Settings


class Marks(BaseModel):
    """The stream's account of one topic.

    ``begin``, ``until``: offset by partition, where the stream began and the next that it has to read. ``records``:
    records read in between (fewer than offsets where transactions or compaction leave gaps). ``series`` names the
    account: a new one begins where the stream does not continue its own work. ``tables``: Delta's id of each table
    written; ``versions``: its version when the marks moved. A table that is still at it holds nothing beyond the marks.
    ``query_id`` and ``batch_id``: the last batch, None before the first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: str
    topic_id: str
    series: str
    begin: dict[str, int]
    until: dict[str, int]
    records: int
    tables: dict[str, str]
    versions: dict[str, int] = {}
    query_id: str | None
    batch_id: int | None
    run_id: str
    at: AwareDatetime


def streams_uri(settings: Settings) -> str:
    """Folder of what the stream tells about itself."""
    return f"{settings.lake_uri}/ops/_streams/kafka_orders"


def marks_uri(settings: Settings) -> str:
    return f"{streams_uri(settings)}/marks/{settings.sources.kafka.topic}.json"


def read_marks(settings: Settings) -> Marks | None:
    """The marks of the topic, or None where no stream has begun."""
    body = store.get(marks_uri(settings))
    return None if body is None else Marks.model_validate_json(body)


def write_marks(settings: Settings, marks: Marks) -> None:
    store.put(marks_uri(settings), marks.model_dump_json(indent=1).encode())
