"""Pages of the repository put together for the site: links that work on the forge are made to work there too.

A link from one page to another stays one. A picture or a file elsewhere in the repository is copied into
the site, a file of text with `.txt` behind its name, so that a browser shows it. A link to a folder becomes
the folder's name. A picture that has a form for dark pages is shown in both, of which a page shows one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from dark import dark_twin
from layers import layers
from places import DOCS, ELSEWHERE, FILES, GALLERY, ROOT, STAGE, VERDICTS

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
_ATTRIBUTE = re.compile(r'\b(src|srcset|href)="([^"]+)"')
_PICTURES = (".png", ".svg", ".gif", ".webp", ".jpg", ".apng")
_INCLUDE = re.compile(r"<!-- include (\S+) -->\n")
_MERMAID = re.compile(r"<!-- diagram -->\n.*?<!-- end -->\n", re.DOTALL)


def pages() -> Iterator[tuple[Path, Path]]:
    """Yield every page of the repository that the site has, and its place within the stage."""
    for path in sorted(DOCS.rglob("*.md")):
        yield path, path.relative_to(DOCS)
    for name, place in ELSEWHERE.items():
        if (ROOT / name).exists():
            yield ROOT / name, Path(place)


def destinations() -> dict[Path, Path]:
    """Return the place of every page by its path: those of `pages`, and what other pages are made from."""
    shown = {path: Path("gallery") / f"{path.stem.replace('_', '-')}.md" for path in GALLERY.glob("*.py")}
    made = {VERDICTS: Path("verdicts/index.md"), GALLERY: Path("gallery/index.md")}
    return {**dict(pages()), **shown, **made}


def stage() -> None:
    """Put all pages of the repository on the stage, which is emptied first."""
    for folder in (STAGE, FILES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for path in DOCS.rglob("*.png"):
        target = STAGE / path.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    places = destinations()
    for path, place in pages():
        if path.suffix == ".ipynb":
            continue
        text = _MERMAID.sub(layers(), path.read_text(encoding="utf-8"))
        text = text + more(text, dict(pages()).values()) if place == Path("index.md") else text
        write(place, _INCLUDE.sub(included, rewritten(text, path, place, places)))


def stage_llms() -> None:
    """Put the list of pages for language models into the site, with links to its pages."""
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    for path, place in destinations().items():
        text = text.replace(f"({path.relative_to(ROOT)})", f"({place.with_suffix('.html')})")
    (FILES / "llms.txt").write_text(text, encoding="utf-8")


def more(index: str, places: Iterable[Path]) -> str:
    """Return a list of contents with the pages that the first page does not list, such as new ones.

    Args:
        index: Text of the first page.
        places: Place of every page.
    """
    listed = re.findall(r"^(?:.*<)?([\w/-]+)>?$", index, re.MULTILINE)
    names = [str(place.with_suffix("")) for place in places]
    others = "\n".join(name for name in names if name not in (*listed, "index"))
    return f"\n```{{toctree}}\n:caption: More\n:hidden:\n\n{others}\n```\n" if others else ""


def included(match: re.Match[str]) -> str:
    """Return a file of the repository as a block of code; a forge, which shows no block, has a link to it.

    Args:
        match: Comment that names it.
    """
    path = ROOT / match[1]
    return f"```{path.suffix.replace('.py', 'python').lstrip('.')}\n{path.read_text(encoding='utf-8')}```\n"


def write(place: Path | str, text: str) -> None:
    """Write a page to the stage.

    Args:
        place: Path within the stage.
        text: Text of the page.
    """
    target = STAGE / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def rewritten(text: str, path: Path, place: Path, places: dict[Path, Path]) -> str:
    """Return a page's text with its links as they are on the site; code is left as it is.

    Args:
        text: Text of the page.
        path: Path of the page in the repository.
        place: Path of the page within the stage.
        places: Place of every page, by its path.
    """

    def link(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        label = _LINK.sub(link, label)
        file = Path(os.path.normpath(path.parent / target))
        if picture and file.is_file() and (dark := dark_twin(file)):
            shown = {"light": file.read_bytes(), "dark": dark}
            return "".join(
                f"![{label}]({_placed(file, place, *each)}){{.only-{each[0]}}}" for each in shown.items()
            )
        new = moved(target, path, place, places)
        if new is None:
            return label if target.rstrip("/").endswith(label.strip("`")) else f"{label} (`{target}`)"
        return f"{picture}[{label}]({new})"

    def attribute(match: re.Match[str]) -> str:
        name, target = match.groups()
        return f'{name}="{moved(target, path, place, places, in_html=True) or target}"'

    parts = _CODE.split(text)  # every second part is code
    parts[::2] = [_ATTRIBUTE.sub(attribute, _LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts)


def moved(
    target: str, path: Path, place: Path, places: dict[Path, Path], *, in_html: bool = False
) -> str | None:
    """Return a link's target on the site; None for a folder of the repository.

    Args:
        target: Target as written.
        path: Path of its page in the repository.
        place: Path of its page within the stage.
        places: Place of every page, by its path.
        in_html: True if it stands in HTML, where pages are `.html`.
    """
    if re.match(r"[a-z]+:|#|//", target):
        return target
    name, hash_, anchor = target.partition("#")
    file = Path(os.path.normpath(path.parent / name))
    if file in places:
        page = os.path.relpath(places[file], place.parent)
        return (page.replace(".md", ".html") if in_html else page) + hash_ + anchor
    if not file.is_relative_to(ROOT) or file.is_dir():
        return None
    if not file.exists():
        return target  # the site's builder says so
    return _copied(file, place, in_html)


def _placed(file: Path, place: Path, scheme: str, content: bytes) -> str:
    """Put one form of a picture on the stage, and return the link to it from a page."""
    inner = Path("pictures") / file.relative_to(ROOT)
    inner = inner.with_name(f"{file.stem.removesuffix('-light')}-{scheme}{file.suffix}")
    (STAGE / inner).parent.mkdir(parents=True, exist_ok=True)
    (STAGE / inner).write_bytes(content)
    return os.path.relpath(inner, place.parent)


def _copied(file: Path, place: Path, in_html: bool) -> str:
    """Copy a file of the repository, and return the link to it from a page."""
    inner = file.relative_to(ROOT)
    is_picture = file.suffix in _PICTURES
    if is_picture and not in_html:
        target = STAGE / "pictures" / inner
        shown = os.path.relpath(Path("pictures") / inner, place.parent)
    else:
        inner = inner if is_picture else inner.with_name(inner.name + ".txt")
        target = FILES / "files" / inner
        shown = os.path.relpath(Path("files") / inner, place.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    # A URL is left alone by the builder, which knows no files beyond its pages.
    return shown if is_picture else f"site:{shown}"
