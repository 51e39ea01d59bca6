"""Objects outside of the tables that nothing will read again: what crashed tries landed, and old checkpoints.

What a manifest names is never among them: landing is kept by the lifecycle rules of S3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from lakehouse import contracts, store
from lakehouse.landing import Manifest
from lakehouse.settings import Settings
from lakehouse.store import StoredObject

_CHECKPOINTS_OF = "bronze.kafka_orders"
# landing/<source>/<table>/<run id>/<file>; the vendor's inbox has another form.
_LANDED = re.compile(r"/landing/[^/]+/(?P<table>[^/]+)/\d{8}T\d{6}Z-[0-9a-f-]{36}/[^/]+$")


def of_landing(settings: Settings, at: datetime) -> list[StoredObject]:
    """Part files that no manifest names and folders without a manifest, past the retention of their Bronze table."""
    found: list[StoredObject] = []
    for folder, items in _folders(store.objects(f"{settings.lake_uri}/landing/")).items():
        contract = contracts.load(f"bronze.{folder.split('/')[-2]}")
        before = at - timedelta(days=contract.retention.deleted_files_days)
        if any(item.modified < before for item in items):
            body = store.get(f"{folder}/manifest.json")
            manifest = None if body is None else Manifest.model_validate_json(body)
            found.extend(leftovers(items, manifest, before))
    return found


def leftovers(
    items: Sequence[StoredObject], manifest: Manifest | None, before: datetime
) -> list[StoredObject]:
    """Of one folder of landing, what may go. Without a manifest all or nothing: a try may be under way."""
    if manifest is None:
        return list(items) if newest(items) < before else []
    kept = {"manifest.json", *(file.name for file in manifest.files)}
    return [item for item in items if item.modified < before and item.uri.rpartition("/")[2] not in kept]


def of_checkpoints(settings: Settings, at: datetime) -> list[StoredObject]:
    """Checkpoints other than the stream's own that nothing has written for the retention of the stream's table."""
    before = at - timedelta(days=contracts.load(_CHECKPOINTS_OF).retention.deleted_files_days)
    base = f"{settings.lake_uri}/checkpoints/"
    current = f"{settings.kafka_checkpoint_uri}/"
    groups: dict[str, list[StoredObject]] = {}
    for item in store.objects(base):
        if not item.uri.startswith(current):
            # checkpoints/<stream>/<topic>/… and checkpoints/lost/<time>/…
            groups.setdefault("/".join(item.uri.removeprefix(base).split("/")[:2]), []).append(item)
    return [item for items in groups.values() if newest(items) < before for item in items]


def newest(items: Iterable[StoredObject]) -> datetime:
    """When the last of some objects was written."""
    return max(item.modified for item in items)


def _folders(items: Iterable[StoredObject]) -> dict[str, list[StoredObject]]:
    """Landed objects by their folder; of other objects nothing is known, and nothing is done to them."""
    known = set(contracts.names("bronze"))
    folders: dict[str, list[StoredObject]] = {}
    for item in items:
        match = _LANDED.search(item.uri)
        if match is not None and f"bronze.{match['table']}" in known:
            folders.setdefault(item.uri.rpartition("/")[0], []).append(item)
    return folders
