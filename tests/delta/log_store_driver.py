"""One Spark driver for test_log_store: takes commands on stdin, answers each with a JSON line on stdout.

`append <uri> <driver> <commits>`  append that many commits of one row; answers when all are done
`merge <uri> <driver> <merges>`     merge that many times a key of its own and one that both drivers have
`optimize <uri> <driver> <times>`  rewrite the table that many times
`session <lake uri>`               what `spark_session` says to this driver's properties
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

from lakehouse.delta import write
from lakehouse.delta.layout import Sizes
from lakehouse.errors import CommitConflict, LakehouseError
from lakehouse.session import local_frame, spark_session


def append(spark: SparkSession, uri: str, driver: str, commits: int) -> str:
    for number in range(commits):
        row = spark.range(number, number + 1, numPartitions=1).withColumn("driver", lit(driver))
        row.write.format("delta").mode("append").save(uri)
    return "done"


def merge(spark: SparkSession, uri: str, driver: str, merges: int) -> str:
    """Each as a job does it; one that lost the race is tried again, and counted."""
    for number in range(merges):
        rows = [(f"both-{number}", driver), (f"{driver}-{number}", driver)]
        frame = local_frame(spark, rows, "id string, driver string")
        _until_it_wins(lambda frame=frame: write.merge(frame, uri, ("id",), f"{driver}/merge"))
    return f"done, {len(lost)} lost races"


def optimize(spark: SparkSession, uri: str, driver: str, times: int) -> str:
    sizes = Sizes(target=1 << 30, small=1 << 20)
    for _ in range(times):
        _until_it_wins(lambda: write.optimize(spark, uri, None, ("id",), f"{driver}/optimize", sizes))
    return f"done, {len(lost)} lost races"


lost: list[CommitConflict] = []


def _until_it_wins(attempt: Callable[[], object]) -> None:
    while True:
        try:
            attempt()
        except CommitConflict as error:
            lost.append(error)
        else:
            return


def session(lake_uri: str) -> str:
    try:
        spark_session("two drivers", lake_uri)
    except LakehouseError as error:
        return f"{error.code}: {error.message}"
    return "accepted"


COMMANDS = {"append": append, "merge": merge, "optimize": optimize}


def main() -> None:
    spark = SparkSession.builder.appName("two drivers").getOrCreate()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command in COMMANDS:
            uri, driver, commits = arguments
            lost.clear()
            answer = COMMANDS[command](spark, uri, driver, int(commits))
        else:
            answer = session(*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
