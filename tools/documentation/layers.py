"""Picture of the package's layers, which on the forge is a diagram that only its own script draws."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from diagram import purpose, rooms


def layers() -> str:
    """Return HTML with a row for each layer, from the top; a layer imports only what lies below it."""
    rows = []
    for layer in rooms():
        boxes = [f"<div><b>{name}</b><span>{escape(purpose(name))}</span></div>" for name in layer]
        if boxes:
            rows.append(f'<div class="layer">{"".join(boxes)}</div>')
    return f'<div class="layers">\n{"".join(rows)}\n</div>\n\n'
