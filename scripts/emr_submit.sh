#!/usr/bin/env bash
# Submit a job by hand, as the DAGs do: scripts/emr_submit.sh dq_check_bronze --run-id 20261120T060000Z-…
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
exec "$python" "$here/scripts/emr_submit.py" "$@"
