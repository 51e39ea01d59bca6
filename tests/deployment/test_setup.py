"""The set-up: where it may be, whose Python it takes, and what it installs on the machine only when asked."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import REPO

SETUP = REPO / "scripts" / "setup.sh"


def functions(*names: str) -> str:
    """Some of the script's functions, and what they use."""
    text = SETUP.read_text(encoding="utf-8")
    found = [re.search(rf"^{name}\(\) {{\n.*?^}}$", text, re.MULTILINE | re.DOTALL) for name in names]
    return "\n".join(["set -euo pipefail", "log=/dev/null", *(each[0] for each in found if each)])


def set_up_in(clone: Path) -> subprocess.CompletedProcess[str]:
    (clone / "scripts").mkdir(parents=True)
    shutil.copy(SETUP, clone / "scripts")
    (clone / ".venv").symlink_to("/nowhere")  # another clone's: there is nothing to do
    return subprocess.run([clone / "scripts" / "setup.sh"], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["my läke house's", "a (copy) of+it@home=1", "日本 é"])
def test_a_clone_may_lie_where_people_put_it(tmp_path: Path, name: str) -> None:
    done = set_up_in(tmp_path / name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("character", list(':;,#%?*"\\$`|&<>{}[]\n'))
def test_a_path_that_would_break_later_is_refused_first(tmp_path: Path, character: str) -> None:
    clone = tmp_path / f"a{character}b"
    done = set_up_in(clone)
    assert done.returncode == 1
    assert done.stderr.startswith("setup: the clone lies in ")
    assert sorted(path.name for path in clone.iterdir()) == [".venv", "scripts"]


@pytest.mark.parametrize(
    ("environment", "installs"),
    [({}, False), ({"SETUP_INSTALL_JDK": "no"}, False), ({"SETUP_INSTALL_JDK": "yes"}, True)],
)
def test_a_jdk_is_installed_by_sudo_only_when_asked(
    tmp_path: Path, environment: dict[str, str], installs: bool
) -> None:
    for name in ("sudo", "apt-get", "apt-cache", "id"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/called\necho 1000\n')
        (tmp_path / name).chmod(0o755)
    names = ("fail", "jdk_version", "apt_package", "may_install_jdk", "apt_install_jdk", "jdk")
    (tmp_path / "sed").symlink_to(shutil.which("sed") or "")
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", functions(*names) + "\njdk"],
        env={"PATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1  # the JDK of this test never comes
    assert "sudo apt-get install -y --no-install-recommends openjdk-17-jdk-headless" in done.stderr
    assert ("sudo " in (tmp_path / "called").read_text()) is installs


def test_the_progress_of_the_installation_moves_on_a_terminal() -> None:
    script = functions("progress") + "\nprintf 'Collecting a==1\\nCollecting b==2\\n' | progress 2"
    ours, theirs = pty.openpty()
    subprocess.run(["bash", "-c", script], stdout=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 1000).decode()
    os.close(ours)
    assert shown == "\r\x1b[K  1 of 2: a==1\r\x1b[K  2 of 2: b==2\r\x1b[K"


def test_make_leaves_the_callers_python_to_the_set_up(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPO / "Makefile", tmp_path)
    (tmp_path / "scripts" / "setup.sh").write_text(
        '#!/bin/sh\necho "python: ${SETUP_PYTHON:-${PYTHON:-none}}"\n'
    )
    (tmp_path / "scripts" / "setup.sh").chmod(0o755)
    # The suite itself runs under make, whose variables would make this one a make within it.
    of_make = ("PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    known = {name: value for name, value in os.environ.items() if name not in of_make}

    def told(*arguments: str, **environment: str) -> str:
        return subprocess.run(
            ["make", "setup", *arguments],
            cwd=tmp_path,
            env=known | environment,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert told() == "python: none"
    assert told(PYTHON="python3.11") == "python: python3.11"
    assert told("PYTHON=/a/python3.12") == "python: /a/python3.12"
