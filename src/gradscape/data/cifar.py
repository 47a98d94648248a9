"""Find CIFAR's files on disk, verify each before it is parsed, and decode them in memory."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradscape.data.cifar_files import Edition, Form
from gradscape.data.images import ImageSet, Int64Array, Uint8Array
from gradscape.data.safe_pickle import read_pickle
from gradscape.errors import DataError

MOST_BYTES = 200_000_000  # limit for a file to read: the largest archive has 170 million
Part = tuple[Uint8Array, Int64Array]


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


def decode(edition: Edition, files: CifarFiles) -> ImageSet:
    """Read, verify and decode the files of an edition.

    Args:
        edition: Data set that the files belong to.
        files: Result of `find_files`.

    Raises:
        DataError: If a file is unreadable, altered, truncated, or a pickle that would run code.
    """
    form = files.form
    contents, checksums = _from_archive(files) if files.archived else _from_folder(files)
    read = _pickled if form.kind == "pickle" else _records
    train = [read(edition, contents[file], file, edition.train_count) for file in form.train]
    test = [read(edition, contents[file], file, edition.test_count) for file in form.test]
    return ImageSet(
        name=edition.name,
        train_images=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        test_images=np.concatenate([images for images, _ in test]),
        test_labels=np.concatenate([labels for _, labels in test]),
        classes=_names(edition, form, contents[form.names]),
        checksums=checksums,
    )


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
        raise DataError(f"{path} is not a readable archive ({error}); {_CURE}") from error
    if missing := sorted(set(wanted.values()) - set(members)):
        raise DataError(f"{path} lacks {', '.join(missing)}; {_CURE}")
    return members, {path.name: checksum}


def _read_bytes(path: Path) -> bytes:
    """Read the whole file at once, so that the verified bytes are the parsed bytes."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{path} has {size:,} bytes, no published file has {MOST_BYTES:,}; {_CURE}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}); permit it, or name another --data-root"
        ) from error


_CURE = "delete it and fetch it again with --download"


def _verify(path: Path, content: bytes, expected: str | None) -> str:
    """Return the file's checksum for the record; raise DataError if it is not the published file."""
    kind = expected.partition(":")[0] if expected else "sha256"
    checksum = f"{kind}:{hashlib.new(kind, content, usedforsecurity=False).hexdigest()}"
    if expected not in (checksum, None):  # None: class names, which are compared as names
        raise DataError(
            f"{path} is not the published file: expected {expected}; got {checksum} "
            f"({len(content):,} bytes); {_CURE}"
        )
    return checksum


def _pickled(edition: Edition, content: bytes, file: str, count: int) -> Part:
    """Parse one file of the Python version: a dict of `data` uint8 (n, 3·side²) and a list of labels."""
    entry = _entry(content, file)
    pixels, labels = entry.get("data"), entry.get(edition.label_key)
    shape = (count, 3 * edition.side**2)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise DataError(f"{file} holds no uint8 array `data` of shape {shape}; {_CURE}")
    if not isinstance(labels, list) or len(labels) != count:
        raise DataError(f"{file} holds no list `{edition.label_key}` of {count:,} labels; {_CURE}")
    return _images(edition, pixels), _labels(np.asarray(labels), edition.classes, file)


def _records(edition: Edition, content: bytes, file: str, count: int) -> Part:
    """Parse one file of the binary version: per image the label bytes, then the color planes."""
    head = len(edition.label_limits)
    width = head + 3 * edition.side**2
    if len(content) != count * width:
        raise DataError(
            f"{file} has the wrong size: expected {count * width:,} bytes; got {len(content):,}; {_CURE}"
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(count, width)
    for column, limit in enumerate(edition.label_limits):
        labels = _labels(rows[:, column], limit, file)
    return _images(edition, rows[:, head:]), labels


def _images(edition: Edition, pixels: Uint8Array) -> Uint8Array:
    """Rearrange (n, 3·side²) planes as contiguous (n, side, side, 3)."""
    planes = pixels.reshape(-1, 3, edition.side, edition.side)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _labels(labels: np.ndarray[Any, Any], limit: int, file: str) -> Int64Array:
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= limit:
        raise DataError(f"{file} holds labels outside 0 … {limit - 1}; {_CURE}")
    return labels.astype(np.int64)


def _names(edition: Edition, form: Form, content: bytes) -> tuple[str, ...]:
    if form.kind == "pickle":
        names = tuple(_entry(content, form.names).get(edition.names_key, ()))
    else:
        names = tuple(content.decode("utf-8", "replace").split())
    if hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest() != edition.names_sha256:
        wanted = f"the {edition.classes} classes of {edition.name}"
        raise DataError(f"{form.names} does not name {wanted}; {_CURE}")
    return names


def _entry(content: bytes, file: str) -> dict[str, Any]:
    entry = read_pickle(content, file)
    if not isinstance(entry, dict):
        raise DataError(f"{file} holds a {type(entry).__name__}, not a dict; {_CURE}")
    return entry
