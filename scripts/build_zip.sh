#!/usr/bin/env bash
# Build what is deployed, into dist/: the same commit gives the same bytes. `--python` adds the jobs' Python packages.
#   scripts/build_zip.sh            library, jobs, jars, DAGs, Lambda packages: dist/releases/<id>/
#   scripts/build_zip.sh --python   and dist/python/<id>.tar.gz (needs the package index; 220 MB)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
exec "$python" "$here/scripts/release.py" build "$@"
