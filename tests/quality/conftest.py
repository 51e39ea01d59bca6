"""The lake that tests of quarantine share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import Aws

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.quality.quarantine_support import Lake


@pytest.fixture(scope="session")
def world(spark: SparkSession, aws: Aws) -> Iterator[Lake]:
    """One lake for all tests of quarantine: each looks at the rows of its own runs."""
    from lakehouse import store
    from tests.quality.quarantine_support import Lake

    bucket = "quarantine"
    aws.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.env.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        spark._jsc.hadoopConfiguration().set("fs.s3a.endpoint", aws.endpoint)
        yield Lake(spark, f"s3://{bucket}", "silver.orders")
    store.client.cache_clear()
