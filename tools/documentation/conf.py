"""Configuration of Sphinx; `build.py` beside it puts the pages together and calls it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import PyClasslike

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import docstring_text  # noqa: E402
import mathml  # noqa: E402

from gradscape import __version__  # noqa: E402

project = "gradscape"
author = "The gradscape authors"
project_copyright = author
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_fence_as_directive = {"math"}  # which forges draw too
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None, "site": "{{path}}"}
suppress_warnings = ["myst.header"]  # README's and others' first heading may be a second-level one

autodoc_mock_imports = ["lightning", "pytorch_lightning", "transformers"]  # seconds to import, and no need
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_numpy_docstring = False
default_role = "code"
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"gradscape {__version__}"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_extra_path = [os.environ.get("GRADSCAPE_DOCS_FILES", "")] if "GRADSCAPE_DOCS_FILES" in os.environ else []
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1d5fa8",
        "color-brand-content": "#1d5fa8",
        "color-code-background": "#f5f7fa",
    },
    "dark_css_variables": {"color-brand-primary": "#7fb4f0", "color-brand-content": "#7fb4f0"},
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = ">>> "


def setup(app: Sphinx) -> dict[str, Any]:
    """Add what is our own to Sphinx.

    Args:
        app: Sphinx's application.
    """
    for field in PyClasslike.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.add_html_math_renderer(
        "mathml", inline_renderers=(mathml.visit_inline, None), block_renderers=(mathml.visit_block, None)
    )
    app.connect("autodoc-process-docstring", docstring_text.escape, priority=100)  # before napoleon
    app.connect("html-page-context", docstring_text.shorten_types)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
