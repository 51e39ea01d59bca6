#!/usr/bin/env python3
"""The checks of terraform/ and .github/ that need no account and no network. What cannot run says so, aloud.

    scripts/terraform_check.py            all of them
    scripts/terraform_check.py fmt test   some: fmt, validate, test, checkov, actionlint

Exit code 1 where a check failed. A tool that is not there is skipped; with REQUIRE_TOOLS=1 (as in CI) that fails, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from local.terraform import Terraform, TerraformFailed, plugin_dir  # noqa: E402  # the path to it is set just above

#: Where `make check-tools` installs checkov, which does not get on with the clone's own environment.
TOOLS = REPO / ".venvs" / "checkov" / "bin"


class Skipped(Exception):
    """Why a check did not run, and how to make it."""


def tool(name: str) -> str:
    """Path of a tool: in .venvs/checkov, or on PATH."""
    own = TOOLS / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def environment() -> dict[str, str]:
    """No credentials and no endpoint: none of these checks may ask AWS."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}


def initialised(scratch: str) -> Terraform:
    tool("terraform")
    if plugin_dir() is None and os.environ.get("CI") is None:
        raise Skipped(
            "there is no offline copy of the aws provider; with a network: CI=1 make terraform-check"
        )
    terraform = Terraform.copy(Path(scratch) / "terraform", environment())
    terraform.init("-backend=false")
    return terraform


def fmt() -> str:
    command = [tool("terraform"), "fmt", "-check", "-recursive", "-list=true", str(REPO / "terraform")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode != 0:
        raise TerraformFailed(
            f"not formatted (terraform fmt -recursive terraform):\n{done.stdout}{done.stderr}"
        )
    return "formatted"


def validate() -> str:
    with tempfile.TemporaryDirectory() as scratch:
        initialised(scratch).run("validate")
    return "valid"


def test() -> str:
    with tempfile.TemporaryDirectory() as scratch:
        return initialised(scratch).run("test").stdout.strip().splitlines()[-1]


def checkov() -> str:
    command = [tool("checkov"), "--directory", str(REPO / "terraform"), "--config-file"]
    command += [str(REPO / "terraform" / ".checkov.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode != 0:
        raise TerraformFailed(done.stdout[-6000:] + done.stderr[-2000:])
    return next((line for line in done.stdout.splitlines() if line.startswith("Passed checks")), "passed")


def actionlint() -> str:
    workflows = sorted(map(str, (REPO / ".github" / "workflows").glob("*.yml")))
    done = subprocess.run([tool("actionlint"), "-no-color", *workflows], capture_output=True, text=True)
    if done.returncode != 0:
        raise TerraformFailed(done.stdout + done.stderr)
    return f"{len(workflows)} workflows"


CHECKS: dict[str, Callable[[], str]] = {
    "fmt": fmt,
    "validate": validate,
    "test": test,
    "checkov": checkov,
    "actionlint": actionlint,
}


def main(argv: Sequence[str]) -> int:
    unknown = set(argv) - CHECKS.keys()
    if unknown:
        print(f"received {', '.join(sorted(unknown))}, expected {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    failed, skipped = [], []
    for name in argv or CHECKS:
        began = time.monotonic()
        try:
            said = CHECKS[name]()
        except Skipped as reason:
            skipped.append(name)
            print(f"SKIPPED {name}: {reason}", flush=True)
        except (TerraformFailed, subprocess.TimeoutExpired) as problem:
            failed.append(name)
            print(f"FAILED  {name}:\n{problem}", flush=True)
        else:
            print(f"ok      {name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
    if skipped:
        print(
            f"{len(skipped)} of {len(argv or CHECKS)} checks did not run: {', '.join(skipped)}. See CONTRIBUTING.md."
        )
    return 1 if failed or (skipped and os.environ.get("REQUIRE_TOOLS")) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
