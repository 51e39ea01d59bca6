"""What the image is made of, without building it: pinned, hashed, no root, and everything that the page imports."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from streamlit import config

from local import dq_dashboard
from tests.support import REPO

FOLDER = REPO / "services" / "dq_dashboard"
#: One instruction a line.
DOCKERFILE = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text())
LOCK = (REPO / "requirements" / "dq_dashboard.txt").read_text()
IGNORED = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
TERRAFORM = REPO / "terraform" / "modules"


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def test_the_base_is_one_exact_version() -> None:
    bases = {line.split(" AS ")[0] for line in instructions("FROM")}
    assert len(instructions("FROM")) == 2
    (base,) = bases
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)


def test_every_package_is_installed_by_its_hash() -> None:
    (install,) = (line for line in instructions("RUN") if "pip install" in line)
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*==[^\s;]+", LOCK, re.MULTILINE)
    entries = re.split(r"\n(?=[a-z0-9])", LOCK)
    assert len(pins) > 30
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)


def test_it_runs_as_the_user_that_the_task_names_and_nobody_s_root() -> None:
    task = (TERRAFORM / "web_service" / "main.tf").read_text()
    (user,) = instructions("USER")
    assert f'"{user}"' in task
    assert not user.startswith(("0", "root"))
    last = DOCKERFILE.rindex("\nUSER ")
    assert not re.search(r"^(RUN|COPY|ADD) ", DOCKERFILE[last:], re.MULTILINE)


def test_its_health_is_asked_where_the_page_answers() -> None:
    (check,) = instructions("HEALTHCHECK")
    assert "http://127.0.0.1:8080/_stcore/health" in check
    assert instructions("EXPOSE") == ["8080"]
    assert settings()["server"]["port"] == 8080


def test_it_is_served_as_on_a_laptop() -> None:
    assert instructions("CMD") == ['["python", "/app/services/dq_dashboard/serve.py"]']
    assert Path(dq_dashboard.argv(8080)[1]) == FOLDER / "serve.py"


def settings() -> dict[str, dict[str, object]]:
    return tomllib.loads((FOLDER / ".streamlit" / "config.toml").read_text())


def test_the_settings_are_streamlit_s_own_and_keep_the_page_private() -> None:
    found = settings()
    themes = found.pop("theme")
    assert set(themes) == {"light", "dark"}
    known = config.get_config_options()
    assert {f"{section}.{name}" for section, names in found.items() for name in names} <= set(known)
    assert found["server"]["address"] == "127.0.0.1"
    assert found["browser"]["gatherUsageStats"] is False
    assert (found["client"]["toolbarMode"], found["client"]["showErrorDetails"]) == ("minimal", "none")
    assert found["client"]["disableDataExport"] is True


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_and_links_are_readable_in_both_themes() -> None:
    for theme in settings()["theme"].values():
        assert isinstance(theme, dict)
        for front in ("textColor", "linkColor", "primaryColor"):
            for back in ("backgroundColor", "secondaryBackgroundColor"):
                high, low = sorted((luminance(theme[front]), luminance(theme[back])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5


def copied(target: Path) -> None:
    """The files of the clone that the image has, as COPY and the ignore file say."""
    for line in instructions("COPY"):
        *sources, place = line.split()
        if sources[0].startswith("--") or not place.startswith("/app"):
            continue
        for source in sources:
            assert f"!{source}" in IGNORED
            goal = target / place.removeprefix("/app/")
            if (REPO / source).is_dir():
                shutil.copytree(REPO / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                goal.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPO / source, goal)


ALONE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not in the image")
sys.meta_path.insert(0, Block())
sys.argv = ["dq_dashboard"]
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({page!r}, default_timeout=60)
app.run()
assert not app.exception, app.exception
assert "S3_DQ_REPORTS_BUCKET: received no value" in app.text[0].value
import dq_dashboard.show
assert dq_dashboard.show.__file__.startswith({root!r}), dq_dashboard.show.__file__
"""


def test_the_page_runs_on_what_the_image_holds(tmp_path: Path) -> None:
    copied(tmp_path)
    locked = {name.lower().replace("_", "-") for name in re.findall(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE)}
    blocked = {
        module
        for module, owners in packages_distributions().items()
        if not {owner.lower().replace("_", "-") for owner in owners} & locked
    }
    assert "pyspark" in blocked
    page = tmp_path / "services" / "dq_dashboard" / "dq_dashboard.py"
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(blocked=blocked, page=str(page), root=str(tmp_path))],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_port_that_is_taken_is_said_with_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_DQ_REPORTS_BUCKET", "any")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert dq_dashboard.main(["--port", str(port)]) == 1
    assert f"make dq-dashboard PORT={port + 10}" in capsys.readouterr().err
