"""Where Java and the jars of emr_configs/jars.xml are on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
JARS = REPO / ".local" / "jars"


class SetupIncomplete(RuntimeError):
    """Something the set-up should have provided is missing; the message says what to type."""


def java_tool(name: str = "java") -> str:
    """The path of `java` or `javac`, from JAVA_HOME if set, else from PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=str(Path(home) / "bin")) if home else shutil.which(name)
    if not found:
        where = f"under JAVA_HOME ({home})" if home else "on PATH"
        raise SetupIncomplete(
            f"No {name} {where}. Install a JDK 17 or 21, or run `make setup`, which says how."
        )
    return found


def pyspark_jars() -> Path:
    """The directory of the jars that PySpark carries, found without importing it."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise SetupIncomplete("PySpark is not installed in this Python. Run `make setup`.")
    return Path(spec.submodule_search_locations[0]) / "jars"


def jars(*configurations: str) -> list[Path]:
    """The jars of these configurations (spark, s3a, kafka, broker), in a stable order.

    Raises SetupIncomplete where a configuration has not been fetched yet.
    """
    found: list[Path] = []
    for configuration in configurations:
        here = sorted((JARS / configuration).glob("*.jar"))
        if not here:
            raise SetupIncomplete(f"No jars in {JARS / configuration}. Run `make jars`.")
        found += here
    return found


def class_path(*configurations: str) -> str:
    """The same, joined as Java takes it."""
    return os.pathsep.join(str(jar) for jar in jars(*configurations))
