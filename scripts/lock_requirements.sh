#!/usr/bin/env bash
# Resolve requirements/*.in anew and pin the result with hashes, for Python 3.11 and 3.12 at once.
# The resolver (uv) has an environment of its own, pinned like the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"

uv=../.venvs/lock/bin/uv
if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$(sed -nE 's/^uv==([0-9.]+).*/\1/p' lock.txt)" ]; then
  ../.venv/bin/python -m venv --clear ../.venvs/lock
  ../.venvs/lock/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r lock.txt
fi

compile() {
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
    --custom-compile-command "make lock" "$@"
}
compile "$@" dev.in -o dev.txt
# The same pins as in dev.txt; PySpark is the image's.
compile -c dev.txt --no-emit-package pyspark --no-emit-package py4j emr.in -o emr.txt
compile -c dev.txt deploy.in -o deploy.txt
# Lambda's image has boto3 and what it needs.
compile -c dev.txt --no-emit-package boto3 --no-emit-package botocore --no-emit-package s3transfer \
  --no-emit-package jmespath dq_runner.in -o dq_runner.txt
compile -c dev.txt dq_dashboard.in -o dq_dashboard.txt
# Neither hosts nor paths of this machine belong into a pin.
if grep -nE '://|^[^#]*(^|[ =])/' *.txt; then
  echo "the lines above name a host or a path: an index of this machine got in" >&2
  exit 1
fi
