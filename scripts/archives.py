"""Archives whose bytes depend on names and contents alone, and packages of others as another machine wants them."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
#: What pip writes beside a package about the installation at hand.
ABOUT_AN_INSTALLATION = {"RECORD", "INSTALLER", "direct_url.json"}


class NoSuchWheel(Exception):
    """pip did not install what a requirements file names; its words are on stderr."""


def zip_bytes(files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these files. Stored, its bytes are the same everywhere; deflated, wherever zlib compresses alike."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=6) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.compress_type = compression
            info.create_system = 3  # Unix, wherever it is built
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def zip_content(body: bytes) -> dict[str, str]:
    """SHA-256 of each file of a zip, whoever compressed it. Raises zipfile.BadZipFile where it is none."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def write_tar(path: Path, members: Mapping[str, tuple[bytes, int]]) -> None:
    """A .tar.gz of names, contents and modes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name in sorted(members):
            data, mode = members[name]
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), mode, 0
            archive.addfile(info, io.BytesIO(data))


def install(requirements: Path, site: Path, python: str, platforms: Sequence[str]) -> None:
    """The wheels of a requirements file for a Python and a platform, each by its hash. Raises NoSuchWheel."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-compile", "--require-hashes", "--only-binary=:all:", "--target", str(site)]
    command += ["--python-version", python, "--implementation", "cp"]
    command += [option for name in platforms for option in ("--platform", name)]
    if subprocess.run([*command, "-r", str(requirements)]).returncode != 0:
        raise NoSuchWheel(f"pip could not install {requirements.name} for Python {python} on {platforms[0]}")


def installed(site: Path) -> Iterator[tuple[str, bytes]]:
    """Every file by its name below a folder of packages, but for what pip writes about this very installation."""
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site)
        # Scripts name this machine's interpreter, and nothing calls them.
        if path.is_file() and name.parts[0] != "bin" and path.name not in ABOUT_AN_INSTALLATION:
            yield name.as_posix(), path.read_bytes()
