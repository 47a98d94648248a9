"""Keep a study's report under `results/`: `python benchmarks/keep.py STUDY_FOLDER`.

Copies claims, tables and those figures that a page of the documentation shows, as SVG, to `results/STUDY-
PRESET-DATA`, and writes `provenance.json` beside them: machine, versions, commit and date of the report; what
the runs were trained on, seeds, images per second of each role's epochs, hours of computing. Other figures
stay in STUDY_FOLDER/report, and the study's command makes all of them again; to keep one more, let a page
show it and give this command again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

import gradscape as gs
from gradscape.records.run import RunRecord
from gradscape.report.svg import DIGITS, PATH
from gradscape.storage.run_folder import ENDED
from measure import machine, spread

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
TABLES = (".csv", ".md")


def keep(folder: Path) -> Path:
    study = gs.load(folder)
    unfinished = [run.identity for run in study.runs.values() if run.state not in (*ENDED, "stopped")]
    if unfinished:
        raise SystemExit(f"{folder} has runs that have not ended: {', '.join(unfinished)}")
    asked = (study.study, study.preset, study.asked["data"], study.asked.get("precision", "fp32"))
    kept = RESULTS / "-".join(asked).removesuffix("-fp32")
    if kept.exists():
        shutil.rmtree(kept)
    shutil.copytree(folder / "report", kept, ignore=shutil.ignore_patterns("*.html", ".*"))
    trim(kept)
    provenance = {
        "machine": machine(),
        "trained_on": sorted({trained_on(run) for run in study.runs.values()}),
        "seeds": {role.name: len(role.runs) for role in study.roles.values()},
        "runs": len(study.runs),
        "notes": study.asked["notes"],
        "images_per_second": {
            role: spread(
                [rate for run in study.of(role) if run is not None for rate in run.curve("images_per_second")]
            )
            for role in study.roles
        },
        "core_hours": round(sum(sum(run.curve("seconds")) for run in study.runs.values()) / 3600, 2),
    }
    (kept / "provenance.json").write_text(json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    return kept


def trim(kept: Path) -> None:
    """Remove what no page shows from a folder of `results/`; cut its figures' coordinates to 1/100 point."""
    shown = shown_figures()
    for path in [*kept.glob("figures/*"), *kept.glob("tables/*")]:
        if path.suffix not in TABLES and path not in shown:
            path.unlink()
    for path in kept.glob("figures/*.svg"):
        text = PATH.sub(lambda match: DIGITS.sub(r"\1", match[0]), path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


def shown_figures() -> set[Path]:
    """Return the paths of the figures under `results/` that pages show."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/notebooks/*.ipynb")]
    pattern = re.compile(r"results/[\w-]+/figures/[\w-]+\.svg")
    return {ROOT / name for page in pages for name in pattern.findall(page.read_text(encoding="utf-8"))}


def trained_on(run: RunRecord) -> str:
    """The processor, or GPU, and the versions that a run's status names."""
    versions = run.status["versions"]
    return f"{run.status['device']}, Python {versions['python']}, torch {versions['torch']}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(keep(parser.parse_args().folder))
