"""Files and folders that a command line names."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape._printing import say
from gradscape.config.options import FilePath, checked_path
from gradscape.errors import ConfigError

FOLDER = "folder of a study or of a run, as --out named it"

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def folder_of(text: FilePath) -> Path:
    """The path of a positional DIR."""
    return checked_path(text, "DIR")


def require_folder(flag: str, file: FilePath | None, *endings: str) -> None:
    """Refuse a file that could not be written when all is computed, or has another ending than these."""
    if file is None:
        return
    file = Path(file)
    if endings and file.suffix not in endings:
        known = " or ".join(filter(None, (", ".join(endings[:-1]), endings[-1])))
        raise ConfigError(f"{flag}: {file} is of no known kind; give a name that ends in {known}")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{flag}: there is no folder {file.parent}; give a file in one that exists")
    if endings and file.is_dir():
        raise ConfigError(f"{flag}: {file} is a folder; give another name")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{flag}: cannot write into {file.parent}; permit it, or give another folder")


def save_figure(drawing: Figure, file: FilePath) -> None:
    """Draw into memory, then write all of it: what was there stays where the disk is full."""
    from gradscape.storage.files import replace_bytes

    file, drawn = Path(file), io.BytesIO()
    drawing.savefig(drawn, format=file.suffix[1:], dpi=150)
    try:
        replace_bytes(file, drawn.getvalue())
    except OSError as error:
        raise ConfigError(f"--figure: cannot write {file}: {error.strerror}; give another place") from error
    say(f"figure: {file}")
