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

MOST_BYTES = 200_000_000  # of a file to read: the largest archive has 170 million
Part = tuple[Uint8Array, Int64Array]


@dataclass(frozen=True)
class Found:
    """The files of one form on disk: its one archive, or all of `Form.files` in order."""

    form: Form
    paths: tuple[Path, ...]
    archived: bool


def find_files(edition: Edition, root: Path) -> Found | None:
    """The edition's files in `root`: extracted (there, or in the published folder), or archived."""
    for form in edition.forms:
        for folder in (root / form.folder, root):
            paths = tuple(folder / file for file in form.files)
            if all(path.is_file() for path in paths):
                return Found(form, paths, archived=False)
    for form in edition.forms:
        if (root / form.archive).is_file():
            return Found(form, (root / form.archive,), archived=True)
    return None


def decode(edition: Edition, found: Found) -> ImageSet:
    """Read, verify and decode the files that `find_files` found.

    Raises:
        DataError: a file is unreadable, altered, cut short, or asks to run code.
    """
    form = found.form
    contents, checksums = _from_archive(found) if found.archived else _from_folder(found)
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


def _from_folder(found: Found) -> tuple[dict[str, bytes], dict[str, str]]:
    contents, checksums = {}, {}
    for path in found.paths:
        contents[path.name] = _read_bytes(path)
        checksums[path.name] = _verify(path, contents[path.name], found.form.checksums.get(path.name))
    return contents, checksums


def _from_archive(found: Found) -> tuple[dict[str, bytes], dict[str, str]]:
    """The form's members, read in memory: nothing is extracted, so no member can choose a path."""
    path = found.paths[0]
    content = _read_bytes(path)
    checksum = _verify(path, content, f"md5:{found.form.archive_md5}")
    wanted = {f"{found.form.folder}/{file}": file for file in found.form.files}
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
    """The whole file at once, so that the bytes verified are the bytes parsed."""
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
    """What the set's record says of this file; an error where it is not the published one."""
    kind = expected.partition(":")[0] if expected else "sha256"
    found = f"{kind}:{hashlib.new(kind, content, usedforsecurity=False).hexdigest()}"
    if expected not in (found, None):  # None: class names, which are compared as names
        raise DataError(
            f"{path} is not the published file: expected {expected}, found {found} "
            f"({len(content):,} bytes); {_CURE}"
        )
    return found


def _pickled(edition: Edition, content: bytes, file: str, count: int) -> Part:
    """One file of the Python version: a dict of `data` uint8 (n, 3·side²) and a list of labels."""
    entry = _entry(content, file)
    pixels, labels = entry.get("data"), entry.get(edition.label_key)
    shape = (count, 3 * edition.side**2)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise DataError(f"{file} holds no uint8 array `data` of shape {shape}; {_CURE}")
    if not isinstance(labels, list) or len(labels) != count:
        raise DataError(f"{file} holds no list `{edition.label_key}` of {count:,} labels; {_CURE}")
    return _images(edition, pixels), _labels(np.asarray(labels), edition.classes, file)


def _records(edition: Edition, content: bytes, file: str, count: int) -> Part:
    """One file of the binary version: per image the label bytes, then the colour planes."""
    head = len(edition.label_limits)
    width = head + 3 * edition.side**2
    if len(content) != count * width:
        raise DataError(
            f"{file} has the wrong size: expected {count * width:,} bytes, found {len(content):,}; {_CURE}"
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(count, width)
    for place, limit in enumerate(edition.label_limits):
        labels = _labels(rows[:, place], limit, file)
    return _images(edition, rows[:, head:]), labels


def _images(edition: Edition, pixels: Uint8Array) -> Uint8Array:
    """(n, 3·side²) planes to contiguous (n, side, side, 3)."""
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
