"""JSON with a format number and a checksum, as files and as lines.

Every file of a run's or study's folder says what it is and ends in a checksum, so that no changed bit is read
as a value.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradscape.errors import StoreError
from gradscape.storage.files import AGAIN, decoding, read_bytes, write_bytes

FORMAT = 4  # of all that is kept; a reader refuses any other
LARGEST_JSON = 2**28  # bytes; a landscape of a million points has 10^8
CHECK = b',\n "crc32": "'  # begins what a JSON file ends in


def write_json(path: Path, values: Mapping[str, Any], durable: bool = True) -> None:
    """Write values with a format number before them and a checksum after them.

    Args:
        path: Path of the file.
        values: Plain value per key.
        durable: Whether to wait for the disk.

    Raises:
        StoreError: It cannot be written.
    """
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    body = text.removesuffix("\n}").encode("utf-8", "replace")  # half a surrogate pair in a layer's name
    write_bytes(path, body + CHECK + b'%08x"\n}\n' % zlib.crc32(body), durable)


def read_json(path: Path, cure: str = AGAIN) -> dict[str, Any]:
    """Return a JSON file's values without its format number and checksum.

    Args:
        path: Path of the file.
        cure: Way out if it is damaged, for the message.

    Raises:
        StoreError: It is missing, damaged, or of another format.
    """
    data = read_bytes(path, LARGEST_JSON)
    with decoding(path, cure):
        values = json.loads(data)
    if not isinstance(values, dict) or type(values.get("format")) is not int:
        raise StoreError(f"{path} is not gradscape's: it has no format number")
    refuse_newer(values["format"], path)  # first: another format's checksum may be another one
    refuse_older(values["format"], path, cure)
    body, _, check = data.rpartition(CHECK)
    if check != b'%08x"\n}\n' % zlib.crc32(body):
        raise StoreError(f"{path} is damaged or was edited: its checksum does not hold; {cure}")
    return {name: value for name, value in values.items() if name not in ("format", "crc32")}


def refuse_newer(found: int, path: Path) -> None:
    """Raise if a file's format is newer than this gradscape's.

    Args:
        found: Number of its format.
        path: Path of the file, for the message.

    Raises:
        StoreError: It is newer.
    """
    if found > FORMAT:
        raise StoreError(
            f"{path} was written by a newer gradscape (format {found}, this one reads {FORMAT}); "
            "type: pip install --upgrade gradscape"
        )


def refuse_older(found: int, path: Path, cure: str = AGAIN) -> None:
    """Raise if a file's format is older than this gradscape's.

    Args:
        found: Number of its format.
        path: Path of the file, for the message.
        cure: Way out, for the message.

    Raises:
        StoreError: It is older.
    """
    if found < FORMAT:
        raise StoreError(
            f"{path} was written by an older gradscape (format {found}, this one reads {FORMAT}); {cure}"
        )


def with_checksum(values: Mapping[str, Any]) -> bytes:
    """Return one JSON line that ends in the CRC-32 of the rest.

    Args:
        values: Plain value per key.
    """
    text = json.dumps(values, allow_nan=False)
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def without_checksum(line: bytes) -> dict[str, Any] | None:
    """Return the values of a line that `with_checksum` wrote, or None if it is damaged.

    Args:
        line: Bytes of the line.
    """
    text, _, check = line.rpartition(b', "crc32": "')
    if check != b'%08x"}' % zlib.crc32(text + b"}"):
        return None
    values = json.loads(text + b"}")
    return values if isinstance(values, dict) else None
