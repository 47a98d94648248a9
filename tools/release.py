"""Prepare a release, and stop before anything leaves this machine: `python tools/release.py 0.1.0`.

It looks whether everything agrees (version, changelog, citation, a clean tree), checks the code, builds the
documentation, wheel and source distribution, installs the wheel with libraries of its own, and prints what to
type to publish them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def git(*words: str) -> str:
    """Return what a command of git prints.

    Args:
        words: Words after `git`.
    """
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def text(name: str) -> str:
    """Return the text of a file of the repository.

    Args:
        name: Path within the repository.
    """
    return (ROOT / name).read_text(encoding="utf-8")


def complaints(version: str) -> Iterator[str]:
    """Yield a line for each thing that does not agree with a release of this version.

    Args:
        version: Version to release.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        yield f"VERSION: expected three numbers such as 0.1.0 or 0.1.0rc1; got {version!r}"
    if f'__version__ = "{version}"' not in text("src/gradscape/version.py"):
        yield f'src/gradscape/version.py: write __version__ = "{version}"'
    if f"\nversion: {version}\n" not in text("CITATION.cff"):
        yield f"CITATION.cff: write version: {version}"
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, text("CHANGELOG.md"), re.MULTILINE):
        yield f"CHANGELOG.md: write ## [{version}] - YEAR-MONTH-DAY in place of ## [Unreleased]"
    if "urls" not in tomllib.loads(text("pyproject.toml"))["project"]:
        yield "pyproject.toml: write [project.urls]: Source, Documentation and Issues, once they have places"


def complaints_of_git(version: str) -> Iterator[str]:
    """Yield a line for each thing in the repository's state that speaks against a release.

    Args:
        version: Version to release.
    """
    if git("status", "--porcelain"):
        yield "git: commit or remove what has changed"
    if git("branch", "--show-current") != "main":
        yield "git: a release is made of main"
    if git("tag", "--list", f"v{version}"):
        yield f"git: v{version} is there already; raise the version"


def main() -> None:
    """Look, build, and say what is left to do by hand."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", metavar="VERSION", help="such as 0.1.0; nothing writes it for you")
    parser.add_argument("--check", action="store_true", help="look whether all agrees, and build nothing")
    given = parser.parse_args()
    if found := [*complaints(given.version), *complaints_of_git(given.version)]:
        sys.exit("\n".join(found))
    if given.check:
        return
    for command in (["make", "lint"], ["make", "docs"], [sys.executable, "tools/distribution.py", "--clean"]):
        subprocess.run(command, cwd=ROOT, check=True)
    print(
        f"\nNothing has been published. Where CI has passed on {git('rev-parse', '--short', 'HEAD')}, type:\n"
        f"  git tag --annotate v{given.version} --message 'gradscape {given.version}'\n"
        f"  git push origin v{given.version}\n"
        f"  python -m twine check dist/gradscape-{given.version}*\n"
        f"  python -m twine upload dist/gradscape-{given.version}*\n"
        "and put build/docs where the documentation is served."
    )


if __name__ == "__main__":
    main()
