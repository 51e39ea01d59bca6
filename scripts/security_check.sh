#!/usr/bin/env bash
# Python's pitfalls, what looks like a credential, known vulnerabilities of packages and jars. The last two ask the
# network (PyPI, OSV), and fail where it does not answer: what was not looked at has not passed.
# The tools: make check-tools. A finding that is none gets `# nosec` with its reason, or its place in .secrets.baseline:
#   .venvs/checks/bin/detect-secrets scan --baseline .secrets.baseline
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=.venvs/checks/bin
[ -x "$tools/bandit" ] || {
  echo "$tools/bandit is missing: make check-tools" >&2
  exit 2
}

echo "bandit"
"$tools/bandit" --quiet --recursive --severity-level medium --confidence-level medium src jobs dags scripts services

echo "detect-secrets"
# It rewrites its baseline, and ends 3, where lines have only moved: let it have a copy.
baseline=$(mktemp)
trap 'rm -f "$baseline"' EXIT
cp .secrets.baseline "$baseline"
mapfile -d '' files < <(git ls-files -z -- ':!.secrets.baseline')
"$tools/detect-secrets-hook" --baseline "$baseline" "${files[@]}" >&2 || [ $? = 3 ]

echo "pip-audit"
# What runs on AWS. What could not be audited is a failure: --strict.
for shipped in emr dq_runner dq_dashboard; do
  "$tools/pip-audit" --strict --disable-pip --require-hashes --requirement "requirements/$shipped.txt"
done

echo "jars"
"$tools/python" scripts/audit_jars.py
