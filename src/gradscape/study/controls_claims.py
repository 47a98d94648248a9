"""What the controls study claims of batch sizes, weight decay and noise, each held to a rule: K1 to K5.

K1 is the paper's own (its C6); the others are what could be behind it, from the literature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscape.records import StudyRecord
from gradscape.report.claims import Claim, Evidence, above, below, differences, equivalent
from gradscape.report.noises import slopes, unmeasured
from gradscape.report.outcomes import beats, finals
from gradscape.report.runs import ended, together, unfinished, window
from gradscape.report.scale_free import scales
from gradscape.study.batchnorm_claims import GUESSES
from gradscape.study.batchnorm_names import BATCH_NAMES
from gradscape.study.controls_names import BASE, CONTROLS, NORMED, decays, larger, sizes

MARGIN = 0.02  # K4: accuracies nearer than this count as equal, as in the BatchNorm study's C5


def claims(study: StudyRecord) -> list[Claim]:
    """K1 to K5 with the evidence there is.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['K1 holds']
    """
    return [equal_epochs(study), equal_updates(study), scaled_rates(study), decay(study), noise(study)]


def equal_epochs(study: StudyRecord) -> Claim:
    return Claim(
        "K1",
        "Larger batches do better at equal epochs",
        "At lr 0.05 and equal epochs, batch sizes above 100 reach a higher validation accuracy than 100.",
        "§5.4, Table 2",
        leads(study, ["batch"]),
        f"{BATCH_NAMES} {GUESSES}",
    )


def equal_updates(study: StudyRecord) -> Claim:
    return Claim(
        "K2",
        "Larger batches do better at equal updates",
        "Where all make as many updates, larger batches reach a higher validation accuracy than 100.",
        "control",
        leads(study, ["updates"]),
        f"At equal epochs larger batches make fewer updates, at equal updates more epochs. {GUESSES}",
    )


def scaled_rates(study: StudyRecord) -> Claim:
    return Claim(
        "K3",
        "Larger batches do better at scaled rates",
        "Where the learning rate goes with the batch size, or with its root, larger batches reach a higher "
        "validation accuracy than 100.",
        "Goyal et al. 2017, §2.1; Malladi et al. 2022",
        leads(study, ["linear", "sqrt"]),
        f"The rate is 0.05 at the largest batch, and smaller for smaller ones. {GUESSES}",
    )


def leads(study: StudyRecord, controls: Sequence[str]) -> tuple[Evidence, ...]:
    """Every larger batch against the base under these controls."""
    return tuple(
        beats(
            study, f"{control}-{size}", f"{control}-{BASE}", "valid",
            f"{CONTROLS[control]}, batch {size} − batch {BASE}",
        )
        for control in controls
        for size in larger(study)
    )  # fmt: skip


def decay(study: StudyRecord) -> Claim:
    least, *_, largest = decays(study)
    none, most = f"bn-l2-{least}", f"bn-l2-{largest}"
    missing = together(unfinished(study, none), unfinished(study, most))
    there = all(scales(study, role, "norm") for role in (none, most) if ended(study, role))
    unknown = together(missing, "" if there else "norms of weights were not kept")
    against = f"{NORMED} and SGD, L2 {largest} over L2 {least}, last epoch"

    def ratios(what: str) -> dict[int, float]:
        logs = [{s: math.log10(v) for s, v in scales(study, role, what).items()} for role in (most, none)]
        return differences(*logs)

    return Claim(
        "K4",
        "Under BatchNorm, L2 changes the scale alone",
        "With BatchNorm everywhere, an L2 penalty on weights leaves the accuracy where it is, but makes the "
        "weights smaller and so raises the effective learning rate lr / ‖w‖².",
        "van Laarhoven 2017",
        (
            equivalent(
                f"validation accuracy, {NORMED} and SGD, L2 {largest} − L2 {least}, "
                f"{window(study, [most, none])}, paired by seed",
                differences(finals(study, most, "valid"), finals(study, none, "valid")),
                MARGIN,
                missing,
            ),
            below(f"log10 of ‖w‖, {against}", ratios("norm"), 0.0, unknown),
            above(f"log10 of lr / ‖w‖², {against}", ratios("rate"), 0.0, unknown),
        ),
        f"Equal means within {MARGIN:g}. ‖w‖ is a geometric mean over the convolutions. {GUESSES}",
    )


def noise(study: StudyRecord) -> Claim:
    roles = [f"batch-{size}" for size in sizes(study)]
    return Claim(
        "K5",
        "The gradient's noise falls with the batch size",
        "The larger the batch, the less its gradient differs from one mini-batch to the next.",
        "Kleinberg et al. 2018",
        (
            below(
                "slope of log tr Σ_B over log B after training at equal epochs (−1 at the same weights)",
                slopes(study, roles),
                0.0,
                together(*(unmeasured(study, role) for role in roles)),
            ),
        ),
        "Each run's noise is at the weights that it came to, which differ.",
    )
