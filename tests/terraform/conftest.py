"""A plan of everything, on the local AWS: what Terraform would make, with every policy whose names it knows."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from local import terraform
from tests.support import Aws


@pytest.fixture(scope="session")
def planned(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The resources of a plan with all services enabled."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed: policies are not evaluated")
    if terraform.plugin_dir() is None:
        pytest.skip("there is no offline copy of the aws provider: policies are not evaluated")
    work = terraform.Terraform.copy(
        tmp_path_factory.mktemp("plan") / "terraform", terraform.environment(aws.endpoint)
    )
    (work.work / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    work.init()
    work.variables(
        terraform.VARIABLES | terraform.SERVICES | {"lake_formation_tags": True, "account_baseline": True}
    )
    work.run("plan", "-out=plan")
    return terraform.resources(work.show("plan"))
