"""Pages made from the code have all of it: names, commands, flags and settings."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.tools import made, tool

import gradscape
from gradscape.cli.main import app
from gradscape.config.paths import SETTINGS
from gradscape.measure.diagnose.limits import Limits
from gradscape.records.diagnosis import GRADES


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
    assert "```none\nDIR/runs/<identity>/config.json     the run's configuration\n" in text
    assert "DIR/watch.json" in text


def test_every_verdict_has_a_page_with_its_meaning_limits_and_source(tmp_path: Path) -> None:
    pages = made("verdict_pages", tmp_path)
    with tool("verdict_pages") as verdict_pages:
        assert set(verdict_pages.MEANINGS) <= set(GRADES)
        texts = {name: pages[f"verdicts/{verdict_pages.slug(name)}.md"] for name in GRADES}
    for name, text in texts.items():
        assert text.startswith(f"---\norphan: true\n---\n\n# {name}\n\n**{GRADES[name]}**: "), name
        assert "## How it is told\n\n- " in text, name  # its rule is found in the code
        assert not re.search("^- .*(: Return|: Report) ", text, re.MULTILINE), name  # as docstrings begin
        assert f"[{name}](" in pages["verdicts/index.md"], name
    limits = Limits()
    assert f"| `span`* | {limits.span:g} | ‖∂L/∂W‖ of one end of the network" in texts["vanishing"]
    assert "Kingma & Ba (2015), Algorithm 1" in texts["vanishing"]
    assert "- clip gradients\n" in texts["learning rate too large"]
    assert "rules.py, line " in texts["exploding"]
