"""Checks of the files and folders that a command line names."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape._printing import print_stderr
from gradscape.config.options import FilePath, checked_path
from gradscape.errors import ConfigError

FOLDER = "folder of a study or of a run, as --out named it"

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def folder_of(text: FilePath) -> Path:
    """Return the path of a positional DIR.

    Args:
        text: Text of the command line.

    Raises:
        ConfigError: No file can have that name.
    """
    return checked_path(text, "DIR")


def require_folder(flag: str, file: FilePath | None, *endings: str) -> None:
    """Refuse a file that could not be written after the computation, or has a wrong ending.

    Args:
        flag: Flag that names the file, for messages.
        file: Path of the file; None is accepted.
        endings: Endings that are allowed; without any, all are.

    Raises:
        ConfigError: The file could not be written, or has another ending.
    """
    if file is None:
        return
    file = Path(file)
    if endings and file.suffix not in endings:
        known = " or ".join(filter(None, (", ".join(endings[:-1]), endings[-1])))
        raise ConfigError(f"{flag}: expected a name that ends in {known}; got {file}")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{flag}: expected a file in a folder that exists; got {file}")
    if endings and file.is_dir():
        raise ConfigError(f"{flag}: expected a file; got {file}, which is a folder")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{flag}: cannot write into {file.parent}; permit it, or give another folder")


def save_figure(drawing: Figure, file: FilePath) -> None:
    """Draw into memory, then write the file as a whole: an earlier one stays if the disk is full.

    Args:
        drawing: Figure to write.
        file: Path of the file.

    Raises:
        ConfigError: The file cannot be written.
    """
    from gradscape.storage.files import replace_bytes

    file, drawn = Path(file), io.BytesIO()
    drawing.savefig(drawn, format=file.suffix[1:], dpi=150)
    try:
        replace_bytes(file, drawn.getvalue())
    except OSError as error:
        raise ConfigError(f"--figure: cannot write {file}: {error.strerror}; give another place") from error
    print_stderr(f"figure: {file}")
