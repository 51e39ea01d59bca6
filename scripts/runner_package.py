"""The zip of the Lambda function dq-platform-runner: its handler, what that imports of ours, its rules, its packages.

It is named by what it is made from, so that it is built, uploaded and deployed only when that changes.
"""

from __future__ import annotations

import ast
import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from scripts import archives

#: Lambda's Python, on Amazon Linux 2023: the newest that set-up takes, so that tests can run on it, as CI does; patched
#: until October 2028 (AWS, Lambda runtimes). terraform/modules/dq_platform names the same, and a test compares.
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
PACKAGE = "services/dq_runner"
HANDLER = "run_automatic_dq_checks.py"
REQUIREMENTS = "requirements/dq_runner.txt"
CONFIG = ("config/dq_platform.yaml", "config/dq_mutes.yaml", "config/dq_rules/")
#: Lambda takes 50 MB where a zip is sent to it by itself, and 250 MB unpacked (AWS, Lambda quotas).
ZIP_LIMIT_BYTES = 50 * 1024 * 1024
UNPACKED_LIMIT_BYTES = 250 * 1024 * 1024
# Sources of compiled modules, types for editors, and tests: nothing imports them.
_UNUSED_SUFFIXES = (".pyi", ".pyx", ".pxd", ".c", ".h", ".cpp", ".hpp", ".pyc")
_UNUSED_FOLDERS = {"tests", "sboms", "__pycache__"}


class PackageError(Exception):
    """What cannot be made into a package that Lambda takes."""


def own_files(paths: Iterable[str], root: Path) -> dict[str, bytes]:
    """Handler, package, rules and the part of the library that they import, by their names in the zip.

    ``paths`` are the files of the checkout. Raises PackageError where the handler is not among them.
    """
    modules = {
        module_name(path): path for path in paths if path.startswith((f"{PACKAGE}/", "src/lakehouse/"))
    }
    modules = {name: path for name, path in modules.items() if path.endswith(".py")}
    handler = f"{PACKAGE}/{HANDLER}"
    if handler not in modules.values():
        raise PackageError(f"{handler} is not in this checkout: Lambda has nothing to call")
    ours = [name for name, path in modules.items() if path.startswith(f"{PACKAGE}/")]
    found = {
        place(modules[name]): (root / modules[name]).read_bytes() for name in closure(ours, modules, root)
    }
    return found | {path: (root / path).read_bytes() for path in paths if path.startswith(CONFIG)}


def module_name(path: str) -> str:
    """dq_runner.rules.mutes for services/dq_runner/rules/mutes.py; a package by its name."""
    dotted = path.removesuffix(".py").removeprefix("services/").removeprefix("src/").replace("/", ".")
    return dotted.removesuffix(".__init__")


def place(path: str) -> str:
    """Where a module lies in the zip: the handler at its root."""
    if path == f"{PACKAGE}/{HANDLER}":
        return HANDLER
    return path.removeprefix("services/").removeprefix("src/")


def closure(begin: Iterable[str], modules: Mapping[str, str], root: Path) -> set[str]:
    """These modules, those that they import among ``modules``, and so on."""
    found: set[str] = set()
    pending = list(begin)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        package = name if modules[name].endswith("__init__.py") else name.rpartition(".")[0]
        source = (root / modules[name]).read_bytes()
        pending += [one for one in imported(source, package) if one in modules]
    return found


def imported(source: bytes, package: str) -> set[str]:
    """Dotted names that a module of ``package`` may import, wherever in it; not what is for type checkers alone."""
    found: set[str] = set()
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            found.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
    # Whoever imports a module imports the packages around it.
    return {".".join(name.split(".")[:end]) for name in found for end in range(1, name.count(".") + 2)}


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from (other, *statements(other))
        else:
            yield from (node, *statements(node))


def package_id(own: Mapping[str, bytes], requirements: bytes) -> str:
    """Name of the zip: what it is made from, and what makes it."""
    digest = hashlib.sha256(archives.zip_bytes(own))
    for part in (requirements, *(Path(one).read_bytes() for one in (__file__, archives.__file__))):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def is_needed(name: str) -> bool:
    """Whether Python may read a file of a package while it runs. Licences stay: they go with what they license."""
    *folders, file = name.split("/")
    return file != "REQUESTED" and not file.endswith(_UNUSED_SUFFIXES) and not _UNUSED_FOLDERS & set(folders)


def build(own: Mapping[str, bytes], requirements: Path, target: Path) -> None:
    """Write the zip. Raises PackageError where it is larger than Lambda takes, archives.NoSuchWheel."""
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        archives.install(requirements, site, PYTHON, PLATFORMS)
        packages = {name: data for name, data in archives.installed(site) if is_needed(name)}
    write({**packages, **own}, target)


def write(files: Mapping[str, bytes], target: Path) -> None:
    """Compressed, and whole or not at all. Raises PackageError where it is larger than Lambda takes."""
    body = archives.zip_bytes(files, zipfile.ZIP_DEFLATED)
    unpacked = sum(map(len, files.values()))
    if len(body) > ZIP_LIMIT_BYTES or unpacked > UNPACKED_LIMIT_BYTES:
        raise PackageError(
            f"{target.name} has {len(body)} bytes, {unpacked} unpacked; Lambda takes {ZIP_LIMIT_BYTES} and "
            f"{UNPACKED_LIMIT_BYTES}. The largest: {', '.join(sorted(files, key=lambda n: -len(files[n]))[:5])}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(body)
    part.replace(target)
