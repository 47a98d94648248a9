"""Points of a landscape on disk, each as soon as it is known, so that a killed command goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradscape.errors import StoreError

Key = tuple[int, ...]  # of a point: its surface, then its place on the grid


class Kept:
    """A file of one line a point, under a first line that says of what.

    Args:
        path: the file; its folder is made if need be.
        of: what the points depend on; a file of something else is refused.

    Raises:
        StoreError: it is of another landscape, or cannot be written.
    """

    def __init__(self, path: Path, of: Mapping[str, Any]) -> None:
        self.path, head = path, json.dumps({"landscape": dict(of)}, sort_keys=True)
        self.points: dict[Key, dict[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            if lines and lines[0].rstrip("\n") != head:
                raise StoreError(f"{path} holds another landscape; give another file, or delete it")
            whole = [line for line in lines if line.endswith("\n")]  # a killed command may have torn the last
            if not whole:
                path.write_text(head + "\n")
            elif len(whole) < len(lines):
                path.write_text("".join(whole))
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}; give another file") from error
        for number, line in enumerate(whole[1:], start=2):
            try:
                values = json.loads(line)
                self.points[tuple(values.pop("at"))] = values
            except (ValueError, KeyError) as error:
                raise StoreError(f"{path}: line {number} is damaged; delete the file") from error

    def add(self, key: Key, values: Mapping[str, Any]) -> None:
        """One point more."""
        self.points[key] = dict(values)
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps({"at": list(key), **values}) + "\n")
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; give another file") from error


def digest(tensors: Iterable[Tensor]) -> str:
    """Of their values, in order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str(tuple(tensor.shape)).encode())
        found.update(
            tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        )
    return found.hexdigest()
