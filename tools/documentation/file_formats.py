"""Page of the file formats, made from what the modules that read and write them say of themselves."""

from __future__ import annotations

import re
import textwrap
from importlib import import_module

from staging import write

from gradscape.storage.json_files import FORMAT

_MODULES = {
    "Folder of a run": "gradscape.storage.run_folder",
    "Epochs of a run": "gradscape.storage.epoch_files",
    "Folder of a study": "gradscape.storage.study_folder",
    "Folder of a watch": "gradscape.storage.watch_folder",
    "JSON": "gradscape.storage.json_files",
    "Whole files": "gradscape.storage.files",
}


_HEAD = """A reader refuses another one. NaN and infinity are the texts `"NaN"`, `"Infinity"`, `"-Infinity"`
in all JSON. Documents for programs, whose fields stay, are described in [For programs](../programs.md#json).
"""


def make() -> None:
    """Write the page of the folders and files that gradscape keeps."""
    text = f"# File formats\n\nWhat is kept has the format {FORMAT}, which every file says.\n{_HEAD}"
    for title, name in _MODULES.items():
        text += f"\n## {title}\n\n{_described(name)}\n"
    write("reference/file-formats.md", text)


def _described(name: str) -> str:
    """Return a module's docstring as Markdown: what is indented is code."""
    first, _, rest = str(import_module(name).__doc__).partition("\n")
    parts = re.split(r"(^(?: {4}.*\n)+)", textwrap.dedent(rest).strip("\n") + "\n", flags=re.MULTILINE)
    parts[1::2] = [f"```none\n{textwrap.dedent(part)}```\n" for part in parts[1::2]]
    return f"{first}\n\n{''.join(parts)}"
