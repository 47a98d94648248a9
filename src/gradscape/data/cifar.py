"""Decode CIFAR's files in memory, both the Python version's and the binary version's."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from gradscape.data.cifar_editions import Edition, Form
from gradscape.data.cifar_files import REFETCH, CifarFiles, read_files
from gradscape.data.images import ImageSet, Int64Array, Uint8Array
from gradscape.data.safe_pickle import read_pickle
from gradscape.errors import DataError

Part = tuple[Uint8Array, Int64Array]


def decode(edition: Edition, files: CifarFiles) -> ImageSet:
    """Read, verify and decode the files of an edition.

    Args:
        edition: Data set that the files belong to.
        files: Result of `find_files`.

    Raises:
        DataError: If a file is unreadable, altered, truncated, or a pickle that would run code.
    """
    form = files.form
    contents, checksums = read_files(files)
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


def _pickled(edition: Edition, content: bytes, file: str, count: int) -> Part:
    """Parse one file of the Python version: a dict of `data` uint8 (n, 3·side²) and a list of labels."""
    entry = _entry(content, file)
    pixels, labels = entry.get("data"), entry.get(edition.label_key)
    shape = (count, 3 * edition.side**2)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise DataError(f"{file} holds no uint8 array `data` of shape {shape}; {REFETCH}")
    if not isinstance(labels, list) or len(labels) != count:
        raise DataError(f"{file} holds no list `{edition.label_key}` of {count:,} labels; {REFETCH}")
    return _images(edition, pixels), _labels(np.asarray(labels), edition.classes, file)


def _records(edition: Edition, content: bytes, file: str, count: int) -> Part:
    """Parse one file of the binary version: per image the label bytes, then the color planes."""
    head = len(edition.label_limits)
    width = head + 3 * edition.side**2
    if len(content) != count * width:
        raise DataError(
            f"{file} has the wrong size: expected {count * width:,} bytes; got {len(content):,}; {REFETCH}"
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
        raise DataError(f"{file} holds labels outside 0 … {limit - 1}; {REFETCH}")
    return labels.astype(np.int64)


def _names(edition: Edition, form: Form, content: bytes) -> tuple[str, ...]:
    if form.kind == "pickle":
        names = tuple(_entry(content, form.names).get(edition.names_key, ()))
    else:
        names = tuple(content.decode("utf-8", "replace").split())
    if hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest() != edition.names_sha256:
        wanted = f"the {edition.classes} classes of {edition.name}"
        raise DataError(f"{form.names} does not name {wanted}; {REFETCH}")
    return names


def _entry(content: bytes, file: str) -> dict[str, Any]:
    entry = read_pickle(content, file)
    if not isinstance(entry, dict):
        raise DataError(f"{file} holds a {type(entry).__name__}, not a dict; {REFETCH}")
    return entry
