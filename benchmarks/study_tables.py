"""Claims and tables of the studies kept under `results/`, and how far they are from the paper's."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from statistics import fmean, geometric_mean
from typing import Any

from tables import RESULTS, ROOT, machine_line, ranged, result, table

RESCUES = "rescues-paper-cifar100-tf32"
SMOOTHING = "smoothing-quick-digits"
SHOWN = 6  # parts of a claim that a page has room for
REMEDIES = (
    "remedy",
    "acc valid",
    "trains",
    "highest lr",
    "gradient at init",
    "correlation at init",
    "effective β",
    "λmax",
)


def claims(folder: str, whose: str = "the paper's claim") -> Callable[[], str]:
    """A study's claims with verdicts and what decided them."""

    return lambda: "\n".join([*claims_table(folder, whose), "", provenance(folder)])


def claims_table(folder: str, whose: str) -> list[str]:
    rows = [
        (claim["id"], escaped(claim["text"]), f"**{claim['verdict']}**", escaped(numbers(claim)))
        for claim in result(f"results/{folder}/claims.json")["claims"]
    ]
    return table(("", whose, "here", "measured"), rows)


def numbers(claim: dict[str, Any]) -> str:
    """What the parts that decide a claim measured and found, or why they decide nothing."""
    against = {"does not hold"} if claim["verdict"] == "undecided" else set()
    deciding = [part for part in claim["parts"] if part["verdict"] in {claim["verdict"], *against}]
    if claim["verdict"] == "not testable" or not deciding:
        return str(claim["reason"])
    shown = [f"{part['measured']}: {part['reason']}" for part in deciding[:SHOWN]]
    if more := len(deciding) - len(shown):
        shown.append(f"and {more} more like these, of {len(claim['parts'])}")
    return "<br>".join(shown)


def escaped(text: str) -> str:
    """As a cell of a table of Markdown."""
    return text.replace("|", "\\|")


def provenance(folder: str) -> str:
    found = result(f"results/{folder}/provenance.json")
    return f"{found['runs']} runs; {machine_line(found['machine'])}."


def dry_runs() -> str:
    """What `--dry-run` says of the studies on CIFAR-100, beside what the epochs of those kept here took."""
    found = result(f"{RESULTS}/dry_runs.json")
    rows = []
    for study, told in found["studies"].items():
        kept = f"results/{study}-small-cifar100/provenance.json"
        hours = f"{result(kept)['core_hours'] / 2:.1f} h" if (ROOT / kept).exists() else "not run yet"
        rows.append((f"`{study}`", str(told["runs"]), f"{told['hours']:.1f} h", hours))
    head = ("study", "runs", "`--dry-run`", "its epochs took")
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])


def curvature_by_loss() -> str:
    """Loss, largest eigenvalue and its scale-free product along the trainings of VGG08, both ways."""
    found = result(f"{RESULTS}/curvature_by_loss.json")
    names = {"vgg08": "VGG08", "vgg08-bn": "VGG08 + BatchNorm"}
    rows = [
        (
            names[role],
            str(seeds[0]["epoch"]),
            f"{fmean(seed['loss'] for seed in seeds):.2f}",
            geometric([seed["largest"] for seed in seeds]),
            geometric([seed["largest"] * seed["weight_norm_squared"] for seed in seeds]),
        )
        for role, runs in found["seeds_of"].items()
        for seeds in zip(*runs, strict=True)
        if seeds[0]["epoch"]
    ]
    head = ("network", "epochs", "loss", "λmax", "λmax times ‖w‖²")
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])


def geometric(values: list[float]) -> str:
    return f"{geometric_mean(values):,.0f} ({min(values):,.0f} … {max(values):,.0f})"


def full_size() -> str:
    """Table 1 and the claims of the study of rescues, and what its runs were trained on."""
    rows = read(RESCUES, 1)
    found = result(f"results/{RESCUES}/provenance.json")
    rate = ranged(found["images_per_second"]["vgg38-bn"])
    said = (
        f"{found['runs']} runs; {'; '.join(found['trained_on'])}; {found['machine']['date']}. An epoch with "
        f"BatchNorm, two runs at once: {rate} images/s in each."
    )
    accuracy = table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    return "\n".join([*accuracy, "", *claims_table(RESCUES, "the claim"), "", said])


def remedies(folder: str, *without: str) -> Callable[[], str]:
    """The columns of a remedies study's Table 1 that a page has room for, and has not left out."""

    def text() -> str:
        columns = [name for name in REMEDIES if name not in without]
        return "\n".join(table(columns, [[row[name] for name in columns] for row in read(folder, 1)]))

    return text


def correlations(folder: str) -> Callable[[], str]:
    """Spearman's ρ and its interval, of a remedies study's Table 2."""

    def brief(cell: str) -> str:
        found = re.match(r"ρ = (\S+), 95 % interval (\S+ … \S+),", cell)
        return f"{found[1]} ({found[2]})" if found else cell

    def text() -> str:
        rows = read(folder, 2)
        columns = [name for name in rows[0] if name != "kind"]
        return "\n".join(table(columns, [[brief(escaped(row[name])) for name in columns] for row in rows]))

    return text


def smoothing() -> str:
    """Every part of the claims of the study of smoothness, with what it is of."""
    rows = [
        (
            claim["id"],
            part["measured"].partition(",")[0].removeprefix("log10 of the "),
            "all" if "mean of" in part["measured"] else re.findall(r"VGG\d+", part["measured"])[0],
            f"**{part['verdict']}**",
            part["reason"],
            "–" if part["p"] is None else f"{part['p']:.2g}",
        )
        for claim in result(f"results/{SMOOTHING}/claims.json")["claims"]
        for part in claim["parts"]
    ]
    head = ("", "with BatchNorm over without", "pairs", "smoother", "log10 of the ratio", "p")
    return "\n".join([*table(head, rows), "", provenance(SMOOTHING)])


def read(folder: str, number: int) -> list[dict[str, str]]:
    with (ROOT / "results" / folder / "tables" / f"table-{number}.csv").open() as file:
        return list(csv.DictReader(file))
