"""What the live page costs, as a table of docs/seeing.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables import RESULTS, machine_line, result, table


def live() -> str:
    found = result(f"{RESULTS}/live.json")
    runs, watch = found["many_runs"], found["large_watch"]
    many = f"{runs['runs']:,} runs of {runs['epochs']} epochs"
    large = f"a watch of {watch['steps']:,} steps and {watch['layers']} layers"
    rows = [
        (many, "first paint in a browser", f"{runs['first_paint_ms'] / 1000:.2f} s"),
        (many, "all runs known after the server's start", f"{runs['all_known_seconds']:.0f} s"),
        (many, "an epoch of a run, from its file to the browser's table", _times(runs["shown_seconds"])),
        (many, "the same, to a client of the server's events", _times(runs["news_seconds"])),
        (many, "a change of a run that was over, to such a client", _times(runs["failure_seconds"])),
        (many, "scrolling the table, a picture", f"{runs['scroll_ms']:.0f} ms"),
        (many, "memory of the server", f"{runs['server_mb']:.0f} MB"),
        (large, "pointing, a value", f"{watch['point_ms']:.1f} ms"),
        (large, "looking closer, a picture", f"{watch['zoom_ms']:.0f} ms"),
        (large, f"folder, with {watch['rows_kept']:,} rows kept", f"{watch['folder_mb']:.0f} MB"),
        (large, "memory of the server", f"{watch['server_mb']:.0f} MB"),
    ]
    return "\n".join([*table(("folder", "what", ""), rows), "", f"{machine_line(found['machine'])}."])


def _times(seconds: Mapping[str, Any]) -> str:
    """Return the median and the longest of some times."""
    return f"{seconds['median']:.2f} s (at most {seconds['longest']:.2f} s, n = {len(seconds['all'])})"
