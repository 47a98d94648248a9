"""Pages made from the code have all of it: names, commands, flags and settings."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.tools import made

import gradscape
from gradscape.cli.main import app
from gradscape.config.paths import SETTINGS


def test_every_public_name_has_an_entry(tmp_path: Path) -> None:
    pages = made("python_names", tmp_path)
    entries = re.findall(r"^\.\. auto\w+:: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    assert {f"gradscape.{name}" for name in gradscape.__all__} <= set(entries)
    assert len(entries) == len(set(entries))
    assert all(f"`gs.{name} <" in pages["reference/python/index.md"] for name in gradscape.__all__)


def test_every_command_and_flag_is_there(tmp_path: Path) -> None:
    text = made("command_line", tmp_path)["reference/command-line.md"]
    for name in (each for each in app if not each.startswith("-")):
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        shown = [each for each in app[name].assemble_argument_collection() if each.show]
        assert all(f"`{each.names[0]}`" in section for each in shown if each.names[0] != "*"), name
    assert "| `--seeds` | `N` | `3` | number of seeds of the signal |" in text
    assert "| `--format` | `text\\|json\\|markdown\\|junit\\|sarif` | `text` |" in text
    assert "| `--remedies`, `--no-remedies` |  |" in text
    assert "| `--optim.lr` | `TEXT` | `0.001` |" in text
    assert "| `FACTORY` |  | required |" in text


def test_every_setting_is_there(tmp_path: Path) -> None:
    text = made("configuration", tmp_path)["reference/configuration.md"]
    assert all(f"| `{name}` |" in text for name in SETTINGS)
    assert "| `net.depth` | whole number | `38` |" in text
    assert "| `axes` |" in text


def test_the_files_of_a_run_are_there(tmp_path: Path) -> None:
    text = made("file_formats", tmp_path)["reference/file-formats.md"]
    assert "```text\nDIR/runs/<identity>/config.json     the run's configuration\n" in text
    assert "DIR/watch.json" in text
