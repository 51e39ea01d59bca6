"""One Spark driver for test_log_store: takes commands on stdin, answers each with a JSON line on stdout.

`append <uri> <driver> <commits>`  append that many commits of one row; answers when all are done
`session <lake uri>`               what `spark_session` says to this driver's properties
"""

from __future__ import annotations

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

from lakehouse.errors import LakehouseError
from lakehouse.session import spark_session


def append(spark: SparkSession, uri: str, driver: str, commits: int) -> str:
    for number in range(commits):
        row = spark.range(number, number + 1, numPartitions=1).withColumn("driver", lit(driver))
        row.write.format("delta").mode("append").save(uri)
    return "done"


def session(lake_uri: str) -> str:
    try:
        spark_session("two drivers", lake_uri)
    except LakehouseError as error:
        return f"{error.code}: {error.message}"
    return "accepted"


def main() -> None:
    spark = SparkSession.builder.appName("two drivers").getOrCreate()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "append":
            uri, driver, commits = arguments
            answer = append(spark, uri, driver, int(commits))
        else:
            answer = session(*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
