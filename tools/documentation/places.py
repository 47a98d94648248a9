"""Places of the documentation: what is read, where pages are put together, and where the site is built."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GALLERY = ROOT / "examples" / "gallery"
VERDICTS = ROOT / "tools" / "documentation" / "verdict_meanings.yaml"  # a forge shows it, the site has pages
STAGE = ROOT / "build" / "docs-source"
FILES = ROOT / "build" / "docs-files"  # copied into the site as they are
SITE = ROOT / "build" / "docs"

# Pages of the repository that are no page of docs/, and their places on the site. Notebooks are executed.
ELSEWHERE = {
    "examples/notebooks/ten_minutes.ipynb": "start/ten-minutes.md",
    "examples/notebooks/paper_in_an_hour.ipynb": "start/paper-in-an-hour.md",
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "CONTRIBUTING.md": "design/contributing.md",
    "SECURITY.md": "project/security.md",
}
