"""Forms of pictures for dark pages."""

from __future__ import annotations

from pathlib import Path

from gradscape.report.figures.style import GRID, GROUND, INK, SHADE

# Colors of a figure → those on a dark page, which has its own ground.
DARK = {INK: "#d8dbe0", "#000000": "#d8dbe0", GRID: "#3a3f46", SHADE: "#24352a", GROUND: "#131416"}


def dark_twin(picture: Path) -> bytes | None:
    """Return the bytes of a picture's dark form; None where it has none.

    A drawing of matplotlib's as SVG has one, which follows from it; `NAME-light.webp` may have a
    `NAME-dark.webp` beside it.

    Args:
        picture: Path of the picture.
    """
    if picture.suffix == ".svg":
        text = picture.read_text(encoding="utf-8")
        for color, dark in {**DARK, GROUND: "none"}.items():
            text = text.replace(color, dark)
        return text.encode()
    twin = picture.with_name(picture.name.replace("-light.", "-dark."))
    return twin.read_bytes() if twin != picture and twin.exists() else None
