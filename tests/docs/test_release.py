"""What a release rests on: files that agree with each other, and a wheel that is looked through."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from tests.docs.tools import ROOT, tool


def test_a_release_is_refused_with_what_is_to_be_written() -> None:
    with tool("release") as release:
        found = list(release.complaints("9.9.9"))
        assert 'src/gradscape/version.py: write __version__ = "9.9.9"' in found
        assert "CITATION.cff: write version: 9.9.9" in found
        assert any(line.startswith("CHANGELOG.md: write ## [9.9.9] - ") for line in found)
        assert next(iter(release.complaints("one"))).startswith("VERSION: expected three numbers")


def test_the_changelog_has_the_form_that_a_release_reads() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("#")]
    assert headings[0] == "# Changelog"
    assert headings[1].startswith("## [")
    kinds = {"### Added", "### Changed", "### Deprecated", "### Removed", "### Fixed", "### Security"}
    assert all(line in kinds or line.startswith("## [") for line in headings[1:])


def test_the_page_on_installing_names_the_torch_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    (pinned,) = (line for line in lines if line.startswith("torch=="))
    assert f"pip install {pinned} --index-url" in (ROOT / "docs" / "start" / "install.md").read_text()


def packed(folder: Path, names: list[str], source: list[str]) -> tuple[Path, Path]:
    """A wheel and a source distribution with empty files of these names."""
    wheel, archive = folder / "gradscape-0.whl", folder / "gradscape-0.tar.gz"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in names:
            file.writestr(name, "")
    with tarfile.open(archive, "w:gz") as file:
        for name in source:
            file.addfile(tarfile.TarInfo(f"gradscape-0/{name}"), io.BytesIO())
    return wheel, archive


def test_a_wheel_with_tests_or_without_data_is_complained_about(tmp_path: Path) -> None:
    with tool("distribution") as distribution:
        ours = [path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")]
        whole = [*ours, *distribution.NEEDED]
        assert distribution.complaints(*packed(tmp_path, whole, list(distribution.IN_SOURCE))) == []
        broken = packed(tmp_path, [*whole[:-1], "tests/test_x.py"], list(distribution.IN_SOURCE[1:]))
        assert distribution.complaints(*broken) == [
            "gradscape-0.whl holds tests/test_x.py",
            f"gradscape-0.whl lacks {whole[-1]}",
            f"gradscape-0.tar.gz lacks {distribution.IN_SOURCE[0]}",
        ]


@pytest.mark.parametrize("name", ["bug", "wrong_verdict", "idea"])
def test_an_issue_s_form_asks_for_the_diagnosis(name: str) -> None:
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text()
    form = yaml.safe_load(text)
    assert {"name", "description", "body"} <= set(form)
    assert all({"type", "attributes"} <= set(each) for each in form["body"])
    assert "gradscape diagnose DIR --json" in text
