"""What a stream tells while it runs: an object that needs no Spark to read, and CloudWatch metrics.

``ops/_streams/kafka_orders/progress.json`` is replaced after each batch, and about once a minute where none comes.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from lakehouse import store
from lakehouse.observe.metrics import Metric
from lakehouse.settings import Settings


class Progress(BaseModel):
    """The last batch of the stream, and the stream as a whole.

    ``at``: end of the batch; ``alive_at``: when the job last said anything. ``rows`` and ``rejected`` are of the batch,
    ``total_*`` since the job started. ``until``: next offset by partition; ``latest``: the topic's end as last seen,
    open transactions included; ``lag``: offsets in between. ``dlq_share``: rejected of rows. ``batch_id`` is None
    before the first batch.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    topic: str
    query_id: str | None = None
    batch_id: int | None = None
    at: AwareDatetime
    alive_at: AwareDatetime
    rows: int = 0
    rejected: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    dlq_share: float = 0.0
    total_rows: int = 0
    total_rejected: int = 0
    until: dict[str, int]
    latest: dict[str, int]
    lag: dict[str, int]


def progress_uri(settings: Settings) -> str:
    return f"{settings.lake_uri}/ops/_streams/kafka_orders/progress.json"


def write_progress(settings: Settings, progress: Progress) -> None:
    store.put(progress_uri(settings), progress.model_dump_json(indent=1).encode())


def read_progress(settings: Settings) -> Progress | None:
    """What the stream last told, or None where there never was one."""
    body = store.get(progress_uri(settings))
    return None if body is None else Progress.model_validate_json(body)


def metrics_of(progress: Progress, environment: str) -> list[Metric]:
    """Rows, rate, duration and refused share of a batch; lag by partition."""
    stream = (("Environment", environment), ("Topic", progress.topic))
    return [
        Metric("StreamRows", float(progress.rows), "Count", stream, progress.at),
        Metric("StreamRowsPerSecond", progress.rows_per_second, "Count/Second", stream, progress.at),
        Metric("StreamBatchSeconds", progress.seconds, "Seconds", stream, progress.at),
        Metric("StreamDlqShare", progress.dlq_share, "None", stream, progress.at),
        *[
            Metric("StreamLag", float(lag), "Count", (*stream, ("Partition", partition)), progress.at)
            for partition, lag in sorted(progress.lag.items())
        ],
    ]
