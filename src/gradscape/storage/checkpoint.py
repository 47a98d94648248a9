"""Files of tensors whose names hold the checksum of their bytes: checkpoints and kept weights."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradscape.storage.files import make_inner, reading, require_file, there, write_bytes
from gradscape.storage.json_files import FORMAT, refuse_newer, refuse_older

TENSORS = re.compile(r"epoch-(\d{4,})\.[0-9a-f]{64}\.safetensors")  # an own checkpoint's name


@dataclass(frozen=True)
class Checkpoint:
    """State from which a run goes on.

    Attributes:
        epoch: Number of epochs that are done.
        arrays: Array per name.
        values: Plain value per name.
    """

    epoch: int
    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]


def save_tensors(
    folder: Path, name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, str]
) -> Path:
    """Write `NAME.<sha256>.safetensors`, whose name holds the checksum of its bytes, and return its path.

    Args:
        folder: Path of the folder, made if it is not there.
        name: Beginning of the file's name.
        arrays: Array per name.
        values: Text per key, for the header.

    Raises:
        StoreError: It cannot be written.
    """
    from safetensors.numpy import save

    make_inner(folder)
    header = {"format": str(FORMAT), **values}
    data = save({key: np.asarray(array, order="C") for key, array in arrays.items()}, header)
    path = folder / f"{name}.{hashlib.sha256(data).hexdigest()}.safetensors"
    write_bytes(path, data)
    return path


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """Return arrays and header of a file, or None if its bytes do not match its name.

    Args:
        path: Path of the file.

    Raises:
        StoreError: It was written by another gradscape, or is no file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    require_file(path, math.inf)
    with reading(path), open(path, "rb") as file:  # in pieces: what is not ours may be of any size
        if hashlib.file_digest(file, "sha256").hexdigest() != path.name.split(".")[1]:
            return None
    with reading(path):
        data = path.read_bytes()
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError):
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        written = int(header.pop("format"))
        refuse_newer(written, path)
        refuse_older(written, path)
        return load(data), header
    return None


def own_tensors(folder: Path) -> list[Path]:
    """Return the paths of the files that have a checkpoint's name.

    Args:
        folder: Path of the folder; it need not be there.
    """
    if not there(folder):
        return []
    with reading(folder):
        return [path for path in folder.iterdir() if TENSORS.fullmatch(path.name)]


def epoch_of(path: Path) -> int:
    """Return the epoch in an own checkpoint's name.

    Args:
        path: Path of the checkpoint.
    """
    match = TENSORS.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def epoch_name(epoch: int) -> str:
    """Return the beginning of a file's name, such as `epoch-0007`.

    Args:
        epoch: Number of the epoch.
    """
    return f"epoch-{epoch:04d}"
