"""Pages of the Python names, which autodoc fills from signatures and docstrings."""

from __future__ import annotations

import inspect
from importlib import import_module

from markdown_tables import table
from staging import write

import gradscape

# Page → title, and the names on it; what is public and on none of them comes to the last of gradscape's own.
_OWN = {
    "watch": (
        "Watch and diagnose",
        ("watch", "diagnose", "Limits", "compare", "replay", "start_live", "FlowRecorder"),
    ),
    "check": ("Check before training", ("check", "lr_range", "coordinate_check")),
    "measures": ("Measure", ("smoothness", "curvature", "noise", "landscape")),
    "runs": (
        "Runs and sweeps",
        (
            "RunConfig",
            "NetConfig",
            "DataConfig",
            "OptimConfig",
            "train_run",
            "load_images",
            "RunFolder",
            "Sweep",
            "load",
        ),
    ),
    "pages": ("Pages, reports, errors", ("save_html", "to_markdown", "GradscapeError")),
}
_BESIDE = {"watch": ("gradscape.measure.watch.watch.Watch",)}  # returned by a public name
_MODULES = {
    "records": ("Records", "gradscape.records", "What measures return, and what folders keep."),
    "integrations": ("Integrations", "gradscape.integrations", "Trackers, alerts and callbacks."),
    "testing": ("Testing", "gradscape.testing", "Assertions for a test suite."),
    "study": ("Studies of your own", "gradscape.study", "What a study's file imports."),
    "nets": ("Networks", "gradscape.nets", "Networks of the studies, as modules."),
}
# Of modules that are not imported here: they need the trainers that they are for.
_CALLBACKS = """
.. autoclass:: gradscape.integrations.lightning.WatchCallback

.. autoclass:: gradscape.integrations.transformers.WatchCallback
"""


def make() -> None:
    """Write the pages of the Python names, and the one that lists them."""
    described = {id(getattr(gradscape, name)): f"gradscape.{name}" for name in gradscape.__all__}
    index = _own_pages()
    rows = [[f"[`{module}`]({page}.md)", text] for page, (_, module, text) in _MODULES.items()]
    index += "\n## Modules\n\n" + table(["module", "purpose"], rows)
    for page in _MODULES:
        _module_page(page, described)
    pages = "\n".join([*_OWN, *_MODULES])
    write("reference/python/index.md", f"{index}\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n")


def _own_pages() -> str:
    """Write the pages of the package's own names, and return the text that lists them."""
    listed = [name for _, names in _OWN.values() for name in names]
    others = tuple(name for name in gradscape.__all__ if name not in listed)
    index = "# Python\n\n`import gradscape as gs` has these names; each is imported when it is first used.\n"
    for page, (title, own) in _OWN.items():
        names = own + (others if page == "pages" else ())
        rows = [
            [_link(f"gs.{name}", f"gradscape.{name}"), _purpose(getattr(gradscape, name))] for name in names
        ]
        index += f"\n## {title}\n\n" + table(["name", "purpose"], rows)
        full = [f"gradscape.{name}" for name in names]
        write(f"reference/python/{page}.md", _page(title, "", [*full, *_BESIDE.get(page, ())]))
    return index


def _module_page(page: str, described: dict[int, str]) -> None:
    """Write the page of a module, with links to what another page describes; add what it describes itself."""
    title, name, text = _MODULES[page]
    module = import_module(name)
    offered = {f"{name}.{each}": id(getattr(module, each)) for each in module.__all__}
    again = [_link(each, described[key]) for each, key in offered.items() if key in described]
    names = [each for each, key in offered.items() if key not in described]
    described |= {offered[each]: each for each in names}
    more = f"{text}\n\nIt also has {', '.join(again)}." if again else text
    write(
        f"reference/python/{page}.md", _page(title, more, names, _CALLBACKS if page == "integrations" else "")
    )


def _purpose(thing: object) -> str:
    return str(inspect.getdoc(thing)).partition("\n")[0]


def _link(shown: str, name: str) -> str:
    return f"{{py:obj}}`{shown} <{name}>`"


def _page(title: str, text: str, names: list[str], more: str = "") -> str:
    """Return a page that has autodoc describe names, given with their modules."""
    entries = "\n".join(_entry(name) for name in names) + more
    return f"# {title}\n\n{text}\n\n```{{eval-rst}}\n{entries}\n```\n"


def _entry(name: str) -> str:
    module, _, own = name.rpartition(".")
    thing = getattr(import_module(module), own)
    if inspect.isclass(thing):
        if issubclass(thing, BaseException):
            return f".. autoexception:: {name}\n"
        return f".. autoclass:: {name}\n   :members:\n"
    return f".. autofunction:: {name}\n" if callable(thing) else f".. autodata:: {name}\n   :no-value:\n"
