"""Write the measured numbers into README and docs from the committed JSON: `python benchmarks/readme.py`.

A page's numbers stand between `<!-- NAME -->` and `<!-- end -->`; a test checks that they are what this
script writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import compare_tables
import compiled_tables
import distribution_tables
import public_tables
import rank_tables
import scale_tables
import statistics_tables
import sweep_tables
import transformer_tables
import width_tables
from alert_tables import alerts
from live_tables import live
from proof import proof
from spike_tables import spikes
from study_tables import (
    claims,
    correlations,
    curvature_by_loss,
    dry_runs,
    full_size,
    remedies,
    smoothing,
)
from tables import (
    INSTRUCTIONS,
    RESULTS,
    ROOT,
    curvature,
    curvature_profile,
    curvature_tasks,
    duration,
    growth,
    landscape_profile,
    landscape_rates,
    landscape_surfaces,
    machine_line,
    packed,
    precision,
    profile,
    quick_profile,
    result,
    smoothness_cost,
    table,
    training,
    training_short,
    watch_cost,
)
from verdict_tables import ceiling, healthy, unseen, verdicts


def measured() -> str:
    commands = result(f"{RESULTS}/commands.json")
    cost = result(f"{RESULTS}/gradient_flow_cost.json")["steps"]
    rate = commands["full_epoch_images_per_second"]
    rows = [
        ("`gradscape --help`", duration(commands["help_seconds"]["median"])),
        (
            f"`gradscape reproduce` (quick: {commands['quick_runs']} runs and the report)",
            duration(commands["quick_seconds"]),
        ),
        *(
            [("the same with `--precision bf16`", duration(commands["quick_bf16_seconds"]))]
            if "quick_bf16_seconds" in commands
            else []
        ),
        ("`gradscape report` on it", duration(commands["report_seconds"]["median"])),
        (
            "CIFAR-100, first read: verified, decoded, cached",
            duration(commands["cifar100_first_read_seconds"]),
        ),
        (
            "CIFAR-100, from the cache, verified again",
            duration(commands["cifar100_cached_read_seconds"]["median"]),
        ),
        (
            "one epoch of VGG38 + BatchNorm on all 47,500 images, batch 100, "
            f"{commands['full_epoch_threads']} threads, fp32",
            f"{duration(commands['full_epoch_seconds'])} ({rate:.0f} images/s)",
        ),
    ]
    for name, step in cost.items():
        added = step["added_percent"]
        rows.append(
            (
                f"recording the gradient flow, per training step ({name})",
                f"{added['median']:+.1f} % ({added['min']:+.1f} … {added['max']:+.1f}, n = {added['n']})",
            )
        )
    return "\n".join([*table(("what", "measured"), rows), "", machine_line(commands["machine"]) + "."])


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"proof": proof},
    "docs/accuracy.md": {
        "healthy": healthy,
        "verdicts": verdicts,
        "verdict-ceiling": ceiling,
        "verdicts-unseen": unseen,
    },
    "docs/distributions.md": {
        "distribution-errors": distribution_tables.errors,
        "distribution-cost": distribution_tables.cost,
    },
    "docs/distributed.md": {
        "rank-cost": rank_tables.costs,
        "scale-predicted": scale_tables.predicted,
        "scale-measured": scale_tables.measured,
        "scale-times": scale_tables.times,
        "scale-folder": scale_tables.folder,
    },
    "docs/watching.md": {"watch-cost": watch_cost},
    "docs/measures.md": {"curvature": curvature, "landscape-rates": landscape_rates},
    "docs/failures.md": {
        "public-survivors": public_tables.survivors,
        "public-scores": public_tables.scores,
        "public-rivals": public_tables.rivals,
        "public-published": public_tables.published,
    },
    "docs/performance.md": {
        "measured": measured,
        "training": training_short,
        **{f"training-{name}": partial(training, name) for name in INSTRUCTIONS},
        **{f"profile-{name}": partial(profile, name) for name in INSTRUCTIONS},
        "quick-profile": quick_profile,
        "curvature-tasks": curvature_tasks,
        "curvature-profile": curvature_profile,
        "smoothness-cost": smoothness_cost,
        "landscape-surfaces": landscape_surfaces,
        "landscape-profile": landscape_profile,
        "growth-avx512": partial(growth, "avx512"),
        "precision": precision,
        "packed": packed,
    },
    "docs/seeing.md": {
        "alerts": alerts,
        "compare-alarms": compare_tables.alarms,
        "compare-changes": compare_tables.changes,
        "live": live,
        "spikes": spikes,
    },
    "docs/studies.md": {
        "quick": claims("batchnorm-quick-digits"),
        "small": claims("batchnorm-small-cifar100"),
        "dry-runs": dry_runs,
        "curvature-by-loss": curvature_by_loss,
        "remedies-claims": claims("remedies-quick-digits", "the claim"),
        "rescues": full_size,
        "smoothing": smoothing,
        "remedies": remedies("remedies-quick-digits"),
        "remedies-correlations": correlations("remedies-quick-digits"),
        "remedies-small": remedies("remedies-small-cifar100", "highest lr"),
        "remedies-small-claims": claims("remedies-small-cifar100", "the claim"),
        "controls-claims": claims("controls-quick-digits", "the claim"),
    },
    "docs/statistics.md": {
        "coverage": statistics_tables.coverage,
        "claim-errors": statistics_tables.claim_errors,
        "looks": statistics_tables.looks,
    },
    "docs/howto/techniques.md": {"compiled-cost": compiled_tables.cost},
    "docs/transformers.md": {"transformer-cost": transformer_tables.cost},
    "docs/networks.md": {"degradation": sweep_tables.degradation},
    "docs/sweeps.md": {
        "example": sweep_tables.example,
        "norms": sweep_tables.norms,
        "faults": sweep_tables.faults,
        "integrity": sweep_tables.integrity,
        "integrity-others": sweep_tables.integrity_others,
        "sweep-growth": sweep_tables.growth,
    },
    "docs/widths.md": {
        "width-exponents": width_tables.exponents,
        "width-verdicts": width_tables.verdicts,
        "width-mup": width_tables.beside_mup,
    },
}


def filled(page: str) -> str:
    """A page's text with every block as the JSON has it."""
    text = (ROOT / page).read_text()
    for name, block in PAGES[page].items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(pattern, lambda m, b=block: f"{m[1]}{b()}\n{m[2]}", text, flags=re.DOTALL)
        assert found == 1, f"{page} has no block {name}"
    return text


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(filled(page))
