"""Points of a landscape on disk, each as soon as it is known, so that a killed command goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradscape._codec import encode, finite_or_not
from gradscape.errors import StoreError
from gradscape.measure.core.as_found import in_memory
from gradscape.storage.files import decoding, read_bytes, replace_bytes, with_checksum, without_checksum

LARGEST = 2**32  # bytes; a point has about a hundred
Key = tuple[int, ...]  # of a point: its surface, then its place on the grid


class Kept:
    """A file of one line a point, with a checksum, under a first line that says of what.

    Args:
        path: the file; its folder is made if need be.
        of: what the points depend on; a file of something else is refused.

    Raises:
        StoreError: it is of another landscape, or cannot be written.
    """

    def __init__(self, path: Path, of: Mapping[str, Any]) -> None:
        self.path, head = path, json.dumps({"landscape": dict(of)}, sort_keys=True).encode()
        self.points: dict[Key, dict[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = read_bytes(path, LARGEST) if path.exists() else b""
            if data[: len(head) + 1] != (head + b"\n")[: len(data)]:
                raise StoreError(f"{path} holds another landscape; give another file, or delete it")
            lines = data.split(b"\n")[:-1] or [head]  # a killed command may have torn the last
            if (whole := b"".join(line + b"\n" for line in lines)) != data:
                replace_bytes(path, whole)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}; give another file") from error
        for number, line in enumerate(lines[1:], start=2):
            if (values := without_checksum(line)) is None:
                raise StoreError(f"{path}: line {number} is damaged; delete the file")
            with decoding(path, "delete the file"):
                self.points[tuple(values.pop("at"))] = finite_or_not(values)

    def add(self, key: Key, values: Mapping[str, Any]) -> None:
        """One point more."""
        self.points[key] = dict(values)
        try:
            with open(self.path, "ab") as file:
                file.write(with_checksum(encode({"at": key, **values})))
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; give another file") from error


def digest(tensors: Iterable[Tensor]) -> str:
    """Of their values, in order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str(tuple(tensor.shape)).encode())
        for part in in_memory(tensor.detach()):
            if part.numel():
                found.update(part.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
