"""Claims K1 to K6 of the controls study, on batch sizes, weight decay and noise, each with its rule.

K1 is the paper's (its C6); the others are possible causes of it, from the literature.
"""

from __future__ import annotations

import math

import numpy as np

from gradscape.analysis.claims import Claim, Evidence, above, below, differences, equivalent
from gradscape.analysis.evidence import beats, equals, finals, open_runs
from gradscape.analysis.noise import slopes, unmeasured
from gradscape.analysis.outcomes import describe_states, ended, guesses, together, window
from gradscape.analysis.weight_norm import scales, through
from gradscape.records.run import StudyRecord
from gradscape.studies.batchnorm.roles import BATCH_NAMES
from gradscape.studies.controls.roles import BASE, CONTROLS, NORMED, SGD_RATE, larger

MARGIN = 0.05  # K3, K4, K6: accuracies nearer than this count as equal
STEEP = 0.1  # K5: a slope nearer than this to -1 counts as -1
EQUAL = (
    f"Equal within {MARGIN:g}, which takes differences between seeds that deviate by less than 0.04 for five "
    "seeds, 0.06 for eight."
)


def claims(study: StudyRecord) -> list[Claim]:
    """Return K1 to K6 with the evidence of a study.

    Args:
        study: Record of a study.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['K1 holds']
    """
    return [
        _equal_epochs(study),
        _equal_updates(study),
        _linear_rates(study),
        _decay(study),
        noise(study),
        _root_rates(study),
    ]


def _equal_epochs(study: StudyRecord) -> Claim:
    return Claim(
        "K1",
        "Larger batches do better at equal epochs",
        "At lr 0.05 and equal epochs, batch sizes above 100 reach a higher validation accuracy than 100.",
        "§5.4, Table 2",
        _leads(study, "batch"),
        f"{BATCH_NAMES} Larger batches make fewer updates.",
        yes="Larger batches do better at equal epochs and the same rate, as in the paper.",
        no="Larger batches do not do better at equal epochs and the same rate here.",
    )


def _equal_updates(study: StudyRecord) -> Claim:
    return Claim(
        "K2",
        "Larger batches do better at equal updates",
        "Where all make as many updates, larger batches reach a higher validation accuracy than 100.",
        "control",
        _leads(study, "updates"),
        "At equal epochs larger batches make fewer updates, at equal updates more epochs.",
        yes="At equal updates larger batches are ahead.",
        no="At equal updates larger batches are not ahead.",
    )


def _leads(study: StudyRecord, control: str) -> tuple[Evidence, ...]:
    """Evidence on every larger batch against the base under a control."""
    return tuple(
        beats(study, f"{control}-{size}", f"{control}-{BASE}", "valid", _label(control, size))
        for size in larger(study)
    )


def _label(control: str, size: int) -> str:
    return f"{CONTROLS[control]}, batch {size} − batch {BASE}"


def _linear_rates(study: StudyRecord) -> Claim:
    return _scaled_rates(
        study,
        "K3",
        "linear",
        "the batch size",
        "Goyal et al. 2017, §2.1",
        "Goyal et al. say so of SGD with a warm-up; here it is Adam without one.",
    )


def _root_rates(study: StudyRecord) -> Claim:
    return _scaled_rates(
        study, "K6", "sqrt", "the root of the batch size", "Malladi et al. 2022", "That is of Adam, as here."
    )


def _scaled_rates(study: StudyRecord, name: str, control: str, what: str, where: str, of_whom: str) -> Claim:
    return Claim(
        name,
        f"Rates that go with {what} make batches alike",
        f"Where the learning rate goes with {what}, larger batches reach the validation accuracy of 100 in "
        "as many epochs.",
        where,
        tuple(
            equals(study, f"{control}-{size}", f"{control}-{BASE}", "valid", _label(control, size), MARGIN)
            for size in larger(study)
        ),
        f"{of_whom} Epochs are equal, updates are not. The rate is 0.05 at the largest batch, and smaller "
        f"for smaller ones. {EQUAL}",
        yes=f"Where the rate goes with {what}, batch sizes end alike.",
        no=f"Where the rate goes with {what}, batch sizes do not end alike here.",
    )


def _decay(study: StudyRecord) -> Claim:
    penalties = study.where(network="bn", lr=SGD_RATE)
    none, most = penalties[0].name, penalties[-1].name
    least, largest = (f"{role.parameters['l2']:g}" for role in (penalties[0], penalties[-1]))
    missing = [
        f"{role}: {states}" for role in (none, most) if (states := describe_states(study, role))
    ]  # a run that diverged has a last epoch too
    unknown = together(*missing, _without_norms(study, none, most))
    against = f"{NORMED} and SGD, L2 {largest} over L2 {least}, last epoch"

    def ratios(what: str) -> dict[int, float]:
        logs = [{s: math.log10(v) for s, v in scales(study, role, what).items()} for role in (most, none)]
        return differences(*logs)

    return Claim(
        "K4",
        "Under BatchNorm, L2 acts through the effective rate",
        "With BatchNorm everywhere, an L2 penalty makes the weights smaller, and so raises the effective "
        "learning rate lr / ‖w‖²; at the same effective rate the accuracy is the same without it.",
        "van Laarhoven 2017",
        (
            below(f"log10 of ‖w‖, {against}", ratios("norm"), 0.0, unknown),
            above(f"log10 of lr / ‖w‖², {against}", ratios("rate"), 0.0, unknown),
            _at_equal_rate(study, most, largest),
        ),
        f"‖w‖ is a geometric mean over the convolutions. {EQUAL}",
        yes="Under BatchNorm L2 shrinks the weights, which raises the effective rate, and does no more.",
        no="That L2 acts through the effective learning rate alone under BatchNorm is not so here.",
    )


def _without_norms(study: StudyRecord, *roles: str) -> str:
    """Name runs of these roles that are done and have no ‖w‖ in some epoch."""
    known = {role: scales(study, role, "norm").keys() for role in roles}
    if any(ended(study, role) and not known[role] for role in roles):
        return "norms of weights were not kept"
    lacking = {
        role: [
            seed
            for seed, run in ended(study, role).items()
            if run.state == "done" and seed not in known[role]
        ]
        for role in roles
    }
    return together(
        *(
            f"{role}: {', '.join(f'seed {seed} has no ‖w‖' for seed in seeds)}"
            for role, seeds in lacking.items()
            if seeds
        )
    )


def _at_equal_rate(study: StudyRecord, most: str, largest: str) -> Evidence:
    """Evidence on the penalty's accuracy less that without one at the same effective rate, by seed."""
    others = [role.name for role in study.where(network="bn", l2=0.0)]
    rates = {role: through(study, role, "rate") for role in (most, *others)}
    ends = {role: finals(study, role, "valid") for role in (most, *others)}
    seeds = set.intersection(*(rates[role].keys() & ends[role].keys() for role in (most, *others)))
    gains, outside = {}, []
    for seed in sorted(seeds):
        xs, ys = np.array(sorted((rates[role][seed], ends[role][seed]) for role in others)).T
        at = rates[most][seed]
        if xs[0] <= at <= xs[-1]:
            gains[seed] = ends[most][seed] - float(np.interp(at, xs, ys))
        else:
            outside.append(seed)
    beyond = f"no run without L2 is on the other side of its effective rate at seeds {outside}" * bool(
        outside
    )
    alone = "there are no runs without L2 at other rates" if len(others) == 1 else ""
    return equivalent(
        f"validation accuracy, {NORMED} and SGD, L2 {largest} − none at the same effective rate (geometric "
        f"mean over epochs; between the rates tried), {window(study, [most, *others])}, paired by seed",
        gains,
        MARGIN,
        together(open_runs(study, most, *others), _without_norms(study, most, *others)),
        together(guesses(study, most, *others), beyond, alone),
    )


def noise(study: StudyRecord) -> Claim:
    """Return K5: the gradient's noise is proportional to one over the batch size.

    Args:
        study: Record of a study.
    """
    role = f"batch-{BASE}"
    gaps = {seed: slope + 1 for seed, slope in slopes(study, role).items()}
    return Claim(
        "K5",
        "The gradient's noise goes as one over the batch size",
        "At the same weights, the larger the batch, the less its gradient differs from one mini-batch to the "
        "next: tr Σ_B goes as 1 / B, under BatchNorm too.",
        "Kleinberg et al. 2018",
        (
            equivalent(
                f"slope of log tr Σ_B over log B, plus 1, at the weights that batch {BASE} came to",
                gaps,
                STEEP,
                unmeasured(study, role),
            ),
        ),
        "Of samples that do not depend on one another it is so by definition; BatchNorm couples those of a "
        "mini-batch. Mini-batches of B, B/2 and B/4 of the same images.",
        yes="At the same weights the gradient's noise goes as one over the batch size.",
        no="At the same weights the gradient's noise does not go as one over the batch size here.",
    )
