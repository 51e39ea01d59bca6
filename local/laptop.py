"""A script on a laptop: the running stack as its environment, and Spark as the stack's jobs have it."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from local import log4j
from local.aws.emr_launch import FAST_OPTIONS
from local.aws.emr_process import image_confs
from local.jars import SetupIncomplete, jars
from local.stack import REPO, lake_name, running
from local.supervisor import UTF8_LOCALE, ServiceError


def use_stack(program: str, *jar_sets: str) -> None:
    """Lead this process to the stack that is up; without one, say so and end it.

    ``jar_sets``: configurations of the jars manifest beyond those that every job has. Within spark-submit there is
    nothing to do.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    try:
        stack = running()
        class_path = jars("spark", "s3a", *jar_sets)
    except (ServiceError, SetupIncomplete) as problem:
        sys.exit(f"{program}: {problem}")
    print(f"{program}: lake {lake_name(stack.state)}", file=sys.stderr)
    os.environ.update(stack.exports)
    folder = Path(tempfile.mkdtemp(prefix=f"{program.replace('_', '-')}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    quiet = folder / "log4j2.properties"
    quiet.write_text(log4j.properties())
    confs = image_confs(stack.aws_endpoint) | {
        "spark.driver.extraClassPath": os.pathsep.join(map(str, class_path)),
        "spark.driver.extraJavaOptions": " ".join([*FAST_OPTIONS, log4j.option(quiet)]),
        "spark.jars": "",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    shared = [
        (REPO / "emr_configs" / name).read_text() for name in ("spark-defaults.conf", "delta-core.conf")
    ]
    lines = [*shared, *(f"{key} {value}" for key, value in confs.items())]
    properties = folder / "spark.conf"
    properties.write_text("\n".join(lines) + "\n")
    # By the environment, Spark takes them without a word.
    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(folder), "LC_ALL": UTF8_LOCALE}
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--properties-file {properties} pyspark-shell"
