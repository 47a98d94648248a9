"""CIFAR's files on disk: find them, read them, and compare each with the published checksum."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from gradscape.data.cifar_editions import Edition, Form
from gradscape.errors import DataError

MOST_BYTES = 200_000_000  # limit for a file to read: the largest archive has 170 million
REFETCH = "delete it and fetch it again with --download"


@dataclass(frozen=True)
class CifarFiles:
    """Files of one form on disk: its archive, or all of `Form.files` in order."""

    form: Form
    paths: tuple[Path, ...]
    archived: bool


def find_files(edition: Edition, root: Path) -> CifarFiles | None:
    """Locate the edition's files in `root`: extracted (there or in the published folder), or archived.

    Args:
        edition: Data set to look for.
        root: Folder to look in.

    Returns:
        The files, extracted ones first; None if there are none.
    """
    for form in edition.forms:
        for folder in (root / form.folder, root):
            paths = tuple(folder / file for file in form.files)
            if all(path.is_file() for path in paths):
                return CifarFiles(form, paths, archived=False)
    for form in edition.forms:
        if (root / form.archive).is_file():
            return CifarFiles(form, (root / form.archive,), archived=True)
    return None


def read_files(files: CifarFiles) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read the files at once, so that the verified bytes are the parsed bytes.

    Args:
        files: Result of `find_files`.

    Returns:
        The contents and the checksums, each by the file's name.

    Raises:
        DataError: If a file is unreadable, altered or truncated.
    """
    return _from_archive(files) if files.archived else _from_folder(files)


def _from_folder(files: CifarFiles) -> tuple[dict[str, bytes], dict[str, str]]:
    contents, checksums = {}, {}
    for path in files.paths:
        contents[path.name] = _read_bytes(path)
        checksums[path.name] = _verify(path, contents[path.name], files.form.checksums.get(path.name))
    return contents, checksums


def _from_archive(files: CifarFiles) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read the form's members in memory: nothing is extracted, so that no member can choose a path."""
    path = files.paths[0]
    content = _read_bytes(path)
    checksum = _verify(path, content, f"md5:{files.form.archive_md5}")
    wanted = {f"{files.form.folder}/{file}": file for file in files.form.files}
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                reader = archive.extractfile(member) if member.isreg() else None
                if member.name in wanted and reader is not None:
                    members[wanted[member.name]] = reader.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable archive ({error}); {REFETCH}") from error
    if missing := sorted(set(wanted.values()) - set(members)):
        raise DataError(f"{path} lacks {', '.join(missing)}; {REFETCH}")
    return members, {path.name: checksum}


def _read_bytes(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{path} has {size:,} bytes, no published file has {MOST_BYTES:,}; {REFETCH}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}); permit it, or name another --data-root"
        ) from error


def _verify(path: Path, content: bytes, expected: str | None) -> str:
    """Return the file's checksum for the record; raise DataError if it is not the published file."""
    kind = expected.partition(":")[0] if expected else "sha256"
    checksum = f"{kind}:{hashlib.new(kind, content, usedforsecurity=False).hexdigest()}"
    if expected not in (checksum, None):  # None: class names, which are compared as names
        raise DataError(
            f"{path} is not the published file: expected {expected}; got {checksum} "
            f"({len(content):,} bytes); {REFETCH}"
        )
    return checksum
