"""Points of a landscape on disk, written one by one: a killed command continues from there."""

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
from gradscape.storage.files import decoding, read_bytes, replace_bytes
from gradscape.storage.json_files import with_checksum, without_checksum

LARGEST = 2**32  # bytes; a point has about a hundred
Key = tuple[int, ...]  # key of a point: its surface, then its grid indices


class PointCache:
    """File with a line per point and its checksum, under a first line that identifies the landscape.

    Args:
        path: Path of the file; its folder is created if missing.
        identity: Everything that the points depend on; a file with another identity is refused.

    Raises:
        StoreError: If it contains another landscape, is damaged, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, head = path, json.dumps({"landscape": dict(identity)}, sort_keys=True).encode()
        self.points: dict[Key, dict[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = read_bytes(path, LARGEST) if path.exists() else b""
            if data[: len(head) + 1] != (head + b"\n")[: len(data)]:
                raise StoreError(f"{path} contains another landscape; give another file, or delete it")
            lines = data.split(b"\n")[:-1] or [head]  # a killed command may leave a torn last line
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
        """Append a point.

        Args:
            key: Key of the point.
            values: Its loss, error and metrics.
        """
        self.points[key] = dict(values)
        try:
            with open(self.path, "ab") as file:
                file.write(with_checksum(encode({"at": key, **values})))
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; give another file") from error


def digest(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of shapes and values, in order.

    Args:
        tensors: Tensors on any device.
    """
    sha256 = hashlib.sha256()
    for tensor in tensors:
        sha256.update(str(tuple(tensor.shape)).encode())
        for part in in_memory(tensor.detach()):
            if part.numel():
                sha256.update(part.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()
