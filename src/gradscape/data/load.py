"""The one entry point: a data set by name, from the cache, from disk, or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscape.config.arguments import typed
from gradscape.data.cache import cache_folder, cached, held_sources, open_held
from gradscape.data.cifar import Found, decode, find_files
from gradscape.data.cifar_files import EDITIONS, Edition
from gradscape.data.digits import load_digits
from gradscape.data.download import download as fetch
from gradscape.data.images import ImageSet
from gradscape.errors import ConfigError, DataError, nearest


@typed()
def load_images(
    name: str,
    root: str | Path | None = None,
    cache: str | Path | None = None,
    download: bool = False,
    mirrors: Sequence[str] | None = None,
) -> ImageSet:
    """A data set, verified and ready: `digits` is embedded, `cifar10` and `cifar100` are found.

    CIFAR is sought in `root`: the extracted Python or binary version (or the folder above it), or
    one of its published `.tar.gz` archives. It is decoded once and kept in the cache; later calls
    map those arrays. Without `root` the cache alone will do.

    Args:
        name: `digits`, `cifar10` or `cifar100`.
        root: the folder that holds CIFAR.
        cache: where decoded arrays are kept; else `$GRADSCAPE_CACHE`, else the user's cache folder.
        download: fetch the binary archive into `root` (else the cache) where nothing is found.
        mirrors: addresses of that archive, tried in order; else its author's host.

    Raises:
        ConfigError: no such data set.
        DataError: nothing found, altered or damaged files, an unwritable cache, a failed download.

    Example:
        >>> load_images("digits").image_size
        16
    """
    if name == "digits":
        return load_digits()
    if name not in EDITIONS:
        known = ("digits", *EDITIONS)
        raise ConfigError(
            f"no data set {name!r}; choose {', '.join(known[:-1])} or {known[-1]}{nearest(name, known)}"
        )
    given, kept = (None if folder is None else Path(folder) for folder in (root, cache))
    return load_edition(EDITIONS[name], given, kept, download, mirrors)


def load_edition(
    edition: Edition,
    root: Path | None = None,
    cache: Path | None = None,
    download: bool = False,
    mirrors: Sequence[str] | None = None,
) -> ImageSet:
    """`load_images` for an `Edition` that need not be in the table; arguments and errors alike."""
    folder = cache_folder(cache) / edition.name
    if root is None and (held := open_held(folder)) is not None:
        return held
    found = _find(edition, root, folder)
    if found is None and download:
        place = folder if root is None else Path(root)
        form = edition.download
        urls = edition.mirrors if mirrors is None else mirrors
        fetch(urls, place / form.archive, form.archive_md5, form.archive_size)
        found = find_files(edition, place)
    if found is None:
        raise DataError(_not_found(edition, root, folder))
    return cached(folder, found.paths, lambda: decode(edition, found))


def _find(edition: Edition, root: Path | None, folder: Path) -> Found | None:
    """In `root` if given; else an earlier download, or what a damaged cache was made from."""
    if root is not None:
        return find_files(edition, Path(root))
    places = [folder, *(path.parent for path in held_sources(folder)[:1])]
    return next((found for place in places if (found := find_files(edition, place))), None)


def _not_found(edition: Edition, root: Path | None, folder: Path) -> str:
    """What was looked for in vain, and what to type."""
    if root is not None:
        forms = " or ".join(f"{form.folder}/ or {form.archive}" for form in edition.forms)
        lacks = "".join(_incomplete(edition, Path(root)))
        return (
            f"{edition.name} is not in {root}: looked for {forms}{lacks}; "
            "correct --data-root or add --download"
        )
    if (folder / "record.json").exists():
        return (
            f"the cached copy of {edition.name} in {folder} is damaged and its source is gone; "
            "give --data-root DIR (the folder that holds it) or --download"
        )
    return (
        f"{edition.name} is needed and not on this machine; "
        "give --data-root DIR (the folder that holds it) or --download"
    )


def _incomplete(edition: Edition, root: Path) -> list[str]:
    """For each folder that is there but lacks files, which it lacks."""
    lacking = []
    for form in edition.forms:
        folder = root / form.folder
        missing = [file for file in form.files if not (folder / file).is_file()]
        if folder.is_dir():
            lacking.append(f"; {folder} lacks {', '.join(missing)}")
    return lacking
