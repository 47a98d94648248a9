"""Tables of docs/distributed.md on large trainings: what was predicted beside what was measured."""

from __future__ import annotations

from tables import RESULTS, machine_line, ranged, result, table

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size(count: float) -> str:
    for factor, unit in UNITS:
        if count >= factor:
            return f"{count / factor:,.3g} {unit}"
    return f"{count:,.0f} bytes"


def predicted() -> str:
    """What the formulas say of the training in question."""
    found = result(f"{RESULTS}/scale.json")["at_scale"]
    plain, both = (found[name]["predicted"] for name in ("plain", "distributions"))
    rows = [
        ("device: what is kept of weights and last gradient, float32", "copies"),
        ("device: the last 1,000 rows", "ring"),
        ("device: sketches of the last reading", "sketches"),
        ("host: readings of distributions, at most", "quantiles"),
        ("host: the last 102,400 losses", "losses"),
        ("given to all-reduces by a rank at a reading", "sent"),
        ("a row in the folder of the watch", "row"),
    ]
    cells = [(text, size(plain[key]), size(both[key])) for text, key in rows]
    calls = ("all-reduces at a reading", str(plain["collectives"]), str(both["collectives"]))
    return "\n".join(table(("", "default", "with distributions"), [*cells[:6], calls, *cells[6:]]))


def measured() -> str:
    """Predictions beside measurements."""
    found = result(f"{RESULTS}/scale.json")
    rows: list[tuple[str, str, str]] = []
    for world, ways in found["sending"].items():
        for name, each in ways.items():
            what = f"bytes given to all-reduces, {world} processes" + _with(name)
            rows.append((what, *(f"{each[key]['bytes']:,}" for key in ("predicted", "measured"))))
    for name, sizes in found["alone"].items():
        rows += [
            (
                f"bytes on the device, 2,000 tensors of {each['parameters'] / 1e6:.0f} million parameters"
                + _with(name),
                f"{each['predicted_device_bytes']:,}",
                f"{each['measured_device_bytes']:,}",
            )
            for each in sizes
        ]
    rows += [
        (
            f"bytes of a row in the folder, {each['tensors']:,} tensors",
            f"{each['predicted_row_bytes']:,}",
            f"{each['row_bytes']:,.0f}",
        )
        for each in found["folder"]
    ]
    return "\n".join([*table(("", "predicted", "measured"), rows), "", machine_line(found["machine"]) + "."])


def _with(name: str) -> str:
    return ", with distributions" if name == "distributions" else ""


def folder() -> str:
    """What a million steps leave in a folder, and what reading it takes."""
    found = result(f"{RESULTS}/scale.json")
    rows = [
        (
            f"{each['tensors']:,} tensors, {each['rows_written']:,} rows",
            size(each["largest_folder_bytes"]),
            f"{each['rows_kept']:,}",
            f"{ranged(each['write_ms'], 0)} ms",
            *(f"{each[key]:.1f} s" for key in ("read_s", "diagnose_s", "document_s")),
        )
        for each in found["folder"]
    ]
    head = (
        "a million steps", "folder, at most", "rows kept", "a writing", "reading all back", "diagnosis",
        "data of a page",
    )  # fmt: skip
    return "\n".join(table(head, rows))


def times() -> str:
    """Seconds of a reading by the fit, beside what was measured."""
    found = result(f"{RESULTS}/scale.json")
    rows = []
    for name, sizes in found["alone"].items():
        fit = found["fit"][name]
        rows += [
            (
                f"{each['parameters'] / 1e6:.0f} million parameters{_with(name)}",
                f"{_seconds(fit, each['parameters']):.2f} s",
                f"{ranged(each['reading_s'], 2)} s",
            )
            for each in sizes
        ]
        local = (
            found["at_scale"][name]["training"]["parameters"] / found["at_scale"][name]["training"]["ranks"]
        )
        whole = f"a rank's {local / 1e6:.0f} of 70,000 million{_with(name)}"
        rows.append((whole, f"{_seconds(fit, local):.2f} s", ""))
    return "\n".join(table(("a reading of 2,000 tensors, one thread", "by the fit", "measured"), rows))


def _seconds(fit: dict[str, float], parameters: float) -> float:
    return fit["seconds_per_element"] * parameters + fit["seconds_per_tensor"] * 2_000
