#!/usr/bin/env python3
"""Check the contracts: each is valid, and what changed since the last release has the version and migration it needs.

Compared with released/ as it is here and, where git knows it, as it is where this branch left --base: so that nobody
passes by editing both alike. 0 all well; 1 a change lacks its version or migration, released/ lacks tables, or (--live)
something differs from its contract; 10 contract files are invalid, with everything that is wrong in them. --release
takes the contracts as they are as the new release.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "src"), str(REPO)]

import jsonschema  # noqa: E402  # the path to what follows is set just above

from lakehouse.contracts import Contract, lineage, loader, migrations, release  # noqa: E402
from lakehouse.contracts.model import LAYERS  # noqa: E402
from lakehouse.errors import (  # noqa: E402
    EXIT_UNEXPECTED,
    ContractError,
    LakehouseError,
    UsageError,
    Violation,
)

DEFINITIONS = REPO / "schema_definitions"
RELEASED = "released"
JOB = "check-contracts"
# Where a branch comes from, unless --base says it; on main without a remote: the last commit.
BASES = ("origin/HEAD", "origin/main", "main", "HEAD")


class Release(NamedTuple):
    """Released contracts, and where they were found."""

    place: str
    contracts: tuple[Contract, ...]

    @property
    def content(self) -> dict[str, str]:
        return {contract.name: contract.content_hash for contract in self.contracts}


def main(argv: Sequence[str] | None = None, definitions: Path = DEFINITIONS) -> int:
    """Check; the words on stdout, what is wrong with the files on stderr."""
    parser = argparse.ArgumentParser(prog="scripts/check_contracts.py", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--live", action="store_true", help="compare with the lake's tables, Glue and the dictionary too"
    )
    only.add_argument("--release", action="store_true", help=f"where all is well, renew {RELEASED}/")
    parser.add_argument("--base", metavar="REV", help=f"the branch this one goes into (default: {_bases()})")
    parser.add_argument("--config", help="settings file for --live (default: the running local stack)")
    arguments = parser.parse_args(argv)
    try:
        current = load_valid(definitions)
        here = Release(f"{definitions.name}/{RELEASED}", loader.load_directory(definitions / RELEASED))
        base = released_at_base(definitions, arguments.base)
        registry = load_migrations(definitions, [*here.contracts, *(base.contracts if base else ())], current)
        # A release writes the folder anew: what it lacks is no obstacle.
        gaps = [] if arguments.release else missing(here, base, current)
        for gap in gaps:
            print(f"FAILED: {gap}")
        failed = len(gaps)
        for each in [here, base] if base is not None and base.content != here.content else [here]:
            failed += compare(each, current, registry)
        if base is None:
            print(f"git knows no earlier release here: compared with {here.place} alone")
        elif base.content == here.content:
            print(f"{here.place} is that of {base.place}")
        if arguments.release and not failed:
            released = take_release(definitions)
            print(f"released: {released} files in {definitions.name}/{RELEASED}; commit them")
        if arguments.live:
            failed += live(current, arguments.config)
        return EXIT_UNEXPECTED if failed else 0
    except LakehouseError as error:
        print(error.told(JOB), file=sys.stderr)
        return error.exit_code


def compare(released: Release, current: Sequence[Contract], registry: Sequence[migrations.Migration]) -> int:
    """Print what changed since a release; returns the number of problems."""
    found = release.findings(released.contracts, current, registry)
    for finding in found:
        print("\n".join(finding.lines))
    failed = sum(len(finding.problems) for finding in found)
    print(
        f"{len(current)} contracts are valid; {len(found)} changed since the release in {released.place}, "
        f"{_count(failed)}"
    )
    return failed


def missing(here: Release, base: Release | None, current: Sequence[Contract]) -> list[str]:
    """What the released contracts lack: without them a table counts as new, and any change of it passes."""
    if not here.contracts:
        return [f"{here.place} holds no contract: take it back from git, or make release-contracts"]
    there = base.content if base is not None else {}
    lost = [each.name for each in current if each.name in there and each.name not in here.content]
    if lost and base is not None:
        return [f"{here.place} lacks {', '.join(lost)}, which {base.place} has: take them back from git"]
    return []


def released_at_base(definitions: Path, base: str | None) -> Release | None:
    """The released contracts of the commit where this branch left ``base``; None where git knows none.

    Raises UsageError where ``base`` is given and cannot be compared with.
    """
    commit = next((found for rev in ([base] if base else BASES) if (found := _left(definitions, rev))), None)
    if commit is None:
        if base is None:
            return None
        raise UsageError(
            f"--base: received {base}, expected a commit that git knows here and that HEAD has history with",
            hint="git fetch the branch, with its history (actions/checkout: fetch-depth: 0)",
        )
    with tempfile.TemporaryDirectory() as folder:
        files = _git(definitions, "ls-tree", "-r", "--name-only", commit, "--", f"{RELEASED}/") or b""
        for name in files.decode().splitlines():
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(_git(definitions, "show", f"{commit}:./{name}") or b"")
        try:
            released = loader.load_directory(Path(folder, RELEASED))
        except ContractError as error:
            raise ContractError(
                f"the contracts released at commit {commit[:10]} cannot be read any more",
                hint="what was valid at its release stays readable: correct the reader, or name a newer --base",
                violations=error.violations,
            ) from error
    return Release(f"commit {commit[:10]}", released) if released or base else None


def _left(definitions: Path, rev: str) -> str | None:
    """The commit where HEAD's history left that of ``rev``."""
    found = _git(definitions, "merge-base", "HEAD", rev)
    return found.decode().strip() if found else None


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git says in a folder; None where it has nothing to say: no repository, no such commit, no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _bases() -> str:
    return f"the first of {', '.join(BASES)} that there is"


def load_valid(definitions: Path) -> tuple[Contract, ...]:
    """The contracts. Raises ContractError with all violations of all files: ODCS, the house's, lineage."""
    violations = list(odcs_violations(definitions))
    contracts: tuple[Contract, ...] = ()
    try:
        contracts = loader.load_directory(definitions)
        violations += lineage.violations(contracts)
    except ContractError as error:
        violations += error.violations
    if violations:
        raise ContractError(
            "contract files are invalid", hint="correct the files named", violations=tuple(violations)
        )
    return contracts


def odcs_violations(definitions: Path) -> Iterable[Violation]:
    """What the official JSON schema of ODCS does not allow. Files that cannot be read are the loader's matter."""
    text = resources.files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8")
    standard = jsonschema.Draft201909Validator(json.loads(text))
    for file in contract_files(definitions):
        try:
            document = loader.read_yaml(loader.read_text(file, file.name), file.name)
        except ContractError:
            continue
        for error in standard.iter_errors(document):
            place = ".".join(str(part) for part in error.absolute_path)
            where = f"{DEFINITIONS.name}/{file.relative_to(definitions)}: {place}"
            yield Violation(where, str(error.instance)[:80], f"as ODCS v3.1 has it: {error.message[:160]}")


def contract_files(definitions: Path) -> list[Path]:
    return [file for layer in LAYERS for file in sorted((definitions / layer).glob("*.yaml"))]


def load_migrations(
    definitions: Path, released: Iterable[Contract], current: Iterable[Contract]
) -> tuple[migrations.Migration, ...]:
    """The named migrations beside the contracts. Raises ContractError where one names what no contract has."""
    registry = migrations.read_registry(definitions / "migrations")
    violations = release.unknown(released, current, registry)
    if violations:
        raise ContractError(
            "migration files are invalid", hint="correct the files named", violations=tuple(violations)
        )
    return registry


def take_release(definitions: Path) -> int:
    """Replace the released snapshot by the contracts as they are; returns the number of files."""
    target = definitions / RELEASED
    shutil.rmtree(target, ignore_errors=True)
    files = [*contract_files(definitions), definitions / loader.VOCABULARIES]
    for file in files:
        copy = target / file.relative_to(definitions)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return len(files)


def live(current: Sequence[Contract], config: str | None) -> int:
    """Name each difference between contracts, tables, Glue and the dictionary; returns how many there are."""
    from lakehouse.contracts.dictionary import markdown
    from lakehouse.flows.drift import drift
    from lakehouse.settings import load_settings, settings_location

    if config is None:
        from local.laptop import use_stack

        use_stack(JOB)
    settings = load_settings(settings_location(config))
    found = drift(settings, current)
    page = REPO / "docs" / "data-dictionary.md"
    if not page.exists() or page.read_text(encoding="utf-8") != markdown(current):
        found.append(Violation("docs/data-dictionary.md", "a page of other contracts", "that of make docs"))
    for each in found:
        print(f"  {each}")
    print(
        f"{len(current)} contracts, their tables, Glue and the dictionary: {_count(len(found), 'difference')}"
    )
    return len(found)


def _count(number: int, what: str = "problem") -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
