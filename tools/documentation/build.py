"""Build the documentation: `python tools/documentation/build.py`, or `make docs`.

Pages of the repository and pages made from the code are put together in build/docs-source, and Sphinx makes
build/docs of them. Any warning, link that leads nowhere or thing loaded from elsewhere ends it with 1.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from places import FILES, SITE, STAGE
from site_check import complaints
from staging import stage, stage_llms

NEEDED = (
    "sphinx", "furo", "myst_parser", "sphinx_copybutton", "sphinx_design",
    "nbclient", "ipykernel", "pytorch_lightning",
)  # fmt: skip


def make_pages() -> None:
    """Put the pages of the repository on the stage, and those that are made from the code."""
    import command_line
    import configuration
    import file_formats
    import gallery
    import notebooks
    import python_names
    import verdict_pages

    stage()
    stage_llms()
    for maker in (verdict_pages, python_names, command_line, configuration, file_formats, gallery, notebooks):
        maker.make()


def build() -> int:
    """Build the site and return an exit code."""
    from sphinx.cmd.build import main

    started = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # scripts and notebooks are run side by side, one on a core
    make_pages()
    shutil.rmtree(SITE, ignore_errors=True)
    os.environ["GRADSCAPE_DOCS_FILES"] = str(FILES)
    strict = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env"]
    doctrees = ["--doctree-dir", str(STAGE.parent / "docs-trees")]
    if code := main([*strict, *doctrees, "-c", str(Path(__file__).parent), str(STAGE), str(SITE)]):
        return code
    found = list(complaints(SITE))
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    pages = sum(1 for _ in SITE.rglob("*.html"))
    print(f"{pages} pages in {time.perf_counter() - started:.0f} s: {SITE / 'index.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.exit(
            f"the documentation needs {', '.join(missing)}; type: make docs, or "
            "pip install -c constraints.txt '.[docs]'"
        )
    sys.exit(build())
