"""The lake that tests of recovery share: each looks at rows and runs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import Aws

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.recovery.support import Recoverable

_BUCKET = "recovery"


@pytest.fixture(scope="session")
def reachable(spark: SparkSession, aws: Aws) -> Iterator[str]:
    """``s3://recovery``, a bucket that boto3, the library and Spark reach."""
    from lakehouse import store

    aws.client("s3").create_bucket(
        Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.env.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        spark._jsc.hadoopConfiguration().set("fs.s3a.endpoint", aws.endpoint)
        yield f"s3://{_BUCKET}"
    store.client.cache_clear()


@pytest.fixture(scope="session")
def world(spark: SparkSession, reachable: str) -> Recoverable:
    from tests.recovery.support import Recoverable

    return Recoverable(spark, reachable, "silver.orders", "silver.vendor_shipments", "ops.recovery_log")
