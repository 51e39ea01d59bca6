"""What a table's log tells without Spark, and the script that prints it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake

from lakehouse.delta.rows import Size, size
from tests.quality.support import make_settings
from tests.support import load_script


def test_the_size_of_a_table_is_that_of_its_newest_version(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    assert size(uri) is None
    write_deltalake(uri, pa.table({"a": [1, 2, 3]}))
    write_deltalake(uri, pa.table({"a": [4]}), mode="append")
    found = size(uri)
    assert found is not None
    assert (found.version, found.rows, found.files) == (1, 4, 2)
    assert found.bytes == sum(path.stat().st_size for path in (tmp_path / "table").glob("*.parquet"))
    write_deltalake(uri, pa.table({"a": [5]}), mode="overwrite")
    found = size(uri)
    assert found is not None
    assert (found.version, found.rows, found.files) == (2, 1, 1)


def test_make_table_says_the_live_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("table")
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(make_settings("s3://lake").model_dump(mode="json", exclude_none=True)))
    asked = []

    def found(uri: str) -> Size | None:
        asked.append(uri)
        return Size(version=7, rows=1200, files=3, bytes=4096)

    monkeypatch.setattr(script, "size", found)
    monkeypatch.setattr(script.verdicts, "read_all", lambda *_: [])
    monkeypatch.setenv("LAKEHOUSE_CONFIG", str(config))
    assert script.main(["silver.orders"]) == 0
    told = capsys.readouterr().out
    assert "live version  7: 1,200 rows in 3 files, 4,096 bytes" in told
    assert "last verdict  none" in told
    assert asked == ["s3://lake/silver/orders"]
    monkeypatch.setattr(script, "size", lambda _: None)
    assert script.main(["silver.orders"]) == 0
    assert "live version  none" in capsys.readouterr().out
    assert script.main(["silver.nothing"]) != 0
    assert "silver.nothing" in capsys.readouterr().err
