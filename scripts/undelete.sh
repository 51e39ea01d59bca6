#!/usr/bin/env bash
# Bring deleted objects of the lake back, all below a prefix:  LAKE_BUCKET=… scripts/undelete.sh silver/orders/
# Deleting an object of a versioned bucket puts a delete marker above it. Here the newest markers are deleted, 300 with
# a call, until none is left: an object that was deleted twice has two. Repeat it wherever it was stopped.
# A table that was made anew since keeps it from beginning: one log would be of two tables.
set -euo pipefail
if [ $# -ne 1 ] || [ "${1%/}" = "$1" ] || [ -z "${LAKE_BUCKET:-}" ]; then
  echo 'usage: LAKE_BUCKET=… scripts/undelete.sh PREFIX (below it all comes back; it ends in "/")' >&2
  echo 'On a laptop, `set -a; . <(.venv/bin/python -m local env); set +a` sets LAKE_BUCKET and the endpoint.' >&2
  exit 2
fi
prefix="$1"
# The clone's own aws, where it has one.
PATH="$(dirname "$0")/../.venv/bin:$PATH"
batch="$(mktemp)"
trap 'rm -f "$batch"' EXIT

status="$(aws s3api get-bucket-versioning --bucket "$LAKE_BUCKET" --query Status --output text)"
if [ "$status" = None ]; then
  echo "s3://$LAKE_BUCKET keeps no versions: what is deleted there is gone, and nothing can be brought back" >&2
  exit 1
fi
any="$(aws s3api list-object-versions --bucket "$LAKE_BUCKET" --prefix "$prefix" --max-items 1 --output json \
  --query '(Versions || DeleteMarkers)[0].Key')"
if [ "$any" = null ] || [ -z "$any" ]; then
  echo "s3://$LAKE_BUCKET/$prefix has no objects, nor had any whose versions are kept: is the prefix right?" >&2
  exit 1
fi

# Commit 0 is the oldest of its log and is written once. Where there is another version of it, or a commit that is not
# there is older, that is another table's.
commits="$(aws s3api list-object-versions --bucket "$LAKE_BUCKET" --prefix "$prefix" --output text \
  --query "Versions[?IsLatest && ends_with(Key, '_delta_log/00000000000000000000.json')].[LastModified, Key]")"
while read -r born first; do
  if [ -z "$first" ]; then continue; fi  # a page of the listing that has none
  older="$(aws s3api list-object-versions --bucket "$LAKE_BUCKET" --prefix "${first%0000000000000000000.json}" \
    --query "Versions[?!IsLatest && (Key == '$first' || LastModified < '$born')] | [0].Key" --output json)"
  if [ "$older" != null ]; then
    echo "s3://$LAKE_BUCKET/$first was written $born, after a table that was there before: deleted of that one is e.g." \
      "$older. To bring it back would mix two tables, so nothing was changed. RUNBOOK_AWS_2025.md 8.12 has the way." >&2
    exit 1
  fi
done <<< "$commits"

while true; do
  aws s3api list-object-versions --bucket "$LAKE_BUCKET" --prefix "$prefix" --output json \
    --query '{Objects: DeleteMarkers[?IsLatest] | [:300].{Key: Key, VersionId: VersionId}}' > "$batch"
  grep -q '"VersionId"' "$batch" || break
  refused="$(aws s3api delete-objects --bucket "$LAKE_BUCKET" --delete "file://$batch" \
    --query 'Errors[0].[Key, Code, Message]' --output text)"
  if [ "$refused" != None ]; then
    echo "S3 did not delete the marker above $refused" >&2
    exit 1
  fi
  echo "$(grep -c '"VersionId"' "$batch") delete markers are gone"
done
if [ "$status" != Enabled ]; then
  echo "What had a version below s3://$LAKE_BUCKET/$prefix is back. Versions are $status there: objects that were written" \
    "or deleted since may be gone for good" >&2
  exit 1
fi
echo "No object below s3://$LAKE_BUCKET/$prefix is deleted"
