"""A job that is submitted to the local stack runs what is in the tree."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local import bootstrap


def test_what_changed_in_the_tree_is_shipped_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {
        "src/lakehouse/a.py": "1",
        "schema_definitions/silver/orders.yaml": "2",
        "jobs/fx_to_bronze.py": "3",
        "scripts/recover.py": "4",
        "config/local.yaml": "5",
        "emr_configs/sizes.yaml": "6",
    }
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    uploads: list[bytes] = []

    def upload(_: Any) -> list[str]:
        uploads.append(bootstrap.library_zip())
        return ["lib/lakehouse.zip"]

    monkeypatch.setattr(bootstrap, "REPO", tmp_path)
    monkeypatch.setattr(bootstrap, "upload_artefacts", upload)
    (tmp_path / "state").mkdir()
    stack: Any = SimpleNamespace(state=tmp_path / "state")

    assert bootstrap.ship(stack) == ["lib/lakehouse.zip"]
    assert bootstrap.ship(stack) == []
    for name in tree:
        before = (tmp_path / name).stat()
        (tmp_path / name).write_text("edited")
        os.utime(tmp_path / name, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert bootstrap.ship(stack) == ["lib/lakehouse.zip"], name
        assert bootstrap.ship(stack) == []
    (tmp_path / "src/lakehouse/a.py").unlink()
    assert bootstrap.ship(stack) == ["lib/lakehouse.zip"]
    # What Python leaves beside the sources is none of them.
    (tmp_path / "src/lakehouse/__pycache__").mkdir()
    (tmp_path / "src/lakehouse/__pycache__/a.cpython-312.pyc").write_text("")
    assert bootstrap.ship(stack) == []
    assert len(uploads) == 2 + len(tree)
