#!/usr/bin/env bash
# Build what is deployed, into dist/: the same commit gives the same bytes. `--python` adds the jobs' Python packages.
#   scripts/build_zip.sh            library, jobs, jars, DAGs: dist/releases/<id>/; the DQ runner: dist/lambda/<id>/dq_runner.zip
#   scripts/build_zip.sh --python   and dist/python/<id>.tar.gz (220 MB)
# Packages of others come from the package index, and only where the archive that needs them is not there yet.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
exec "$python" "$here/scripts/release.py" build "$@"
