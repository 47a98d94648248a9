"""Load a data set by name: from the cache, from disk, or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscape.config.arguments import typed
from gradscape.data.cache import cache_folder, cached_sources, open_cached, open_or_decode
from gradscape.data.cifar import decode
from gradscape.data.cifar_editions import EDITIONS, Edition
from gradscape.data.cifar_files import CifarFiles, find_files
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
    """Return a data set, verified: `digits` is embedded, `cifar10` and `cifar100` are files on disk.

    CIFAR is looked for in `root`: the extracted Python or binary version (or the folder above it), or one of
    the published `.tar.gz` archives. It is decoded once into the cache; later calls map those arrays. Without
    `root`, a cached copy is used.

    Args:
        name: Name: `digits`, `cifar10` or `cifar100`.
        root: Folder that contains CIFAR.
        cache: Folder of decoded arrays; by default `$GRADSCAPE_CACHE`, else the user's cache folder.
        download: Whether to fetch a missing set as binary archive into `root` (without it, into the cache).
        mirrors: URLs of that archive, tried in order; by default its author's host.

    Raises:
        ConfigError: If there is no such data set, or no folder can have the cache's name.
        DataError: If files are missing, altered or damaged, the cache is unwritable, or a download failed.

    Example:
        >>> load_images("digits").image_size
        16
    """
    if name == "digits":
        return load_digits()
    if name not in EDITIONS:
        names = ("digits", *EDITIONS)
        raise ConfigError(
            f"data set: expected {', '.join(names[:-1])} or {names[-1]}; got {name!r}{nearest(name, names)}"
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
    """Return the set of an `Edition`, which need not be one of `EDITIONS`.

    Args:
        edition: Data set and its published files.
        root, cache, download, mirrors: See `load_images`.

    Raises:
        DataError: See `load_images`.
    """
    folder = cache_folder(cache) / edition.name
    if root is None and (images := open_cached(folder)) is not None:
        return images
    files = _find(edition, root, folder)
    if files is None and download:
        target = folder if root is None else Path(root)
        form = edition.download
        urls = edition.mirrors if mirrors is None else mirrors
        fetch(urls, target / form.archive, form.archive_md5, form.archive_size)
        files = find_files(edition, target)
    if files is None:
        raise DataError(_not_found(edition, root, folder))
    return open_or_decode(folder, files.paths, lambda: decode(edition, files))


def _find(edition: Edition, root: Path | None, folder: Path) -> CifarFiles | None:
    """Look in `root`; without it, for an earlier download or the sources of a damaged cache."""
    if root is not None:
        return find_files(edition, Path(root))
    folders = [folder, *(path.parent for path in cached_sources(folder)[:1])]
    return next((files for inside in folders if (files := find_files(edition, inside))), None)


def _not_found(edition: Edition, root: Path | None, folder: Path) -> str:
    """Return a sentence that says where the set is missing and what to type."""
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
    """Return a clause with the missing files of each incomplete folder."""
    lacking = []
    for form in edition.forms:
        folder = root / form.folder
        missing = [file for file in form.files if not (folder / file).is_file()]
        if folder.is_dir():
            lacking.append(f"; {folder} lacks {', '.join(missing)}")
    return lacking
