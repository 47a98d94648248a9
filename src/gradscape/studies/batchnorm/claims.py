"""Claims C1 to C9 of the paper, each with its rule and the evidence of the study's runs.

Paper: "MLP Coursework 2: Investigating the Optimization of Convolutional Networks" (s1705386).
"""

from __future__ import annotations

import math

from gradscape.analysis.claims import Claim, above, below, differences
from gradscape.analysis.curvature import flatter
from gradscape.analysis.equal_loss import AT_EQUAL_LOSS, smoother_at_equal_loss, testable
from gradscape.analysis.evidence import beats, equals, trains
from gradscape.analysis.gradient_flow import ended_flows, first_conv, lacking, log10, slope
from gradscape.analysis.outcomes import joined, together
from gradscape.analysis.smoothness import fewest_steps, smoother
from gradscape.records.run import StudyRecord
from gradscape.studies.batchnorm.roles import BAND, BATCH_NAMES, BATCHES, RATES

RATIO = 2.0  # C2: "orders of magnitude", read as at least two
VANISHED = -18.0  # C2: log10 of the paper's 1e-20, within two orders of magnitude
MARGIN = 0.02  # C5: accuracies nearer than this count as equal; the paper's are 0.547 and 0.547
BEST = "0.0005"  # C9
SMOOTHNESS = (
    "The paper argues this from accuracies alone. Measured along the steps of training (Santurkar et al. "
    "2018, Fig. 4); less is smoother."
)


def claims(study: StudyRecord) -> list[Claim]:
    """Return C1 to C9 with the evidence of a study.

    Args:
        study: Record of a study.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['C1 holds']
    """
    return [
        _depth(study),
        _vanishing(study),
        steady(study),
        _robust(study),
        _generalizes(study),
        _batches(study),
        _smooths(study),
        _batches_smooth(study),
        _best_rate(study),
    ]


def _depth(study: StudyRecord) -> Claim:
    return Claim(
        "C1",
        "Depth fails without BatchNorm",
        "VGG08 trains on CIFAR-100; VGG38 without BatchNorm does not (about 1 % train accuracy).",
        "§2, Fig. 1c,d",
        (
            trains(study, "vgg08", "VGG08"),
            trains(study, "vgg38", "VGG38 without BatchNorm", below, control="vgg08"),
        ),
        yes="Without BatchNorm VGG08 trains and VGG38 does not.",
        no="That VGG08 trains without BatchNorm and VGG38 does not is not so here.",
    )


def _vanishing(study: StudyRecord) -> Claim:
    missing = lacking(study, "vgg38")
    deep, shallow = ended_flows(study, "vgg38"), ended_flows(study, "vgg08")
    ratio = differences(first_conv(shallow), first_conv(deep))
    slopes = {seed: slope(log10(flow.mean(axis=0)[conv])) for seed, (flow, conv) in deep.items()}
    smallest = {seed: float(log10(flow.mean(axis=0)[conv]).min()) for seed, (flow, conv) in deep.items()}
    return Claim(
        "C2",
        "Gradients vanish with depth",
        "VGG38's gradients are orders of magnitude below VGG08's and shrink towards the input, to about "
        "1e-20.",
        "§2, §5.3, Fig. 1a,b",
        (
            above(
                "log10 of VGG08's over VGG38's mean |∂L/∂W| of the first convolution, mean over epochs "
                "(2 is a factor of 100)",
                ratio,
                RATIO,
                together(missing, lacking(study, "vgg08")),
            ),
            above(
                "slope of VGG38's log10 mean |∂L/∂W| over its convolutions, orders of magnitude per layer",
                slopes,
                0.0,
                missing,
            ),
            below(
                "log10 of VGG38's smallest mean |∂L/∂W| of any convolution, mean over epochs (-18 is two "
                "orders of magnitude above the paper's)",
                smallest,
                VANISHED,
                missing,
            ),
        ),
        "A gradient of exactly 0 counts as the smallest float32, 1.4e-45, where a logarithm is taken.",
        yes="VGG38's gradients vanish towards the input.",
        no="VGG38's gradients do not vanish towards the input as in the paper.",
    )


def steady(study: StudyRecord) -> Claim:
    """Return C3: with BatchNorm, gradients stay in the paper's range.

    Args:
        study: Record of a study.
    """
    by_seed, missing = ended_flows(study, "vgg38-bn"), lacking(study, "vgg38-bn")
    logs = {seed: log10(flow[:, conv]) for seed, (flow, conv) in by_seed.items()}
    low, high = (math.log10(end) for end in BAND)
    words = "mean |∂L/∂W| of VGG38 with BatchNorm of any convolution and epoch"
    return Claim(
        "C3",
        "BatchNorm keeps gradients in range",
        "With BatchNorm, VGG38's per-layer mean absolute gradients stay within [1e-4, 1e-1].",
        "§5.3, Fig. 2",
        (
            above(f"log10 of the lowest {words}", {s: float(v.min()) for s, v in logs.items()}, low, missing),
            below(
                f"log10 of the highest {words}", {s: float(v.max()) for s, v in logs.items()}, high, missing
            ),
        ),
        "Judged by the mean over seeds of each run's lowest and highest value: of enough seeds one will "
        "leave any range for an epoch.",
        yes="With BatchNorm every convolution's gradient stays in the paper's range.",
        no="With BatchNorm the gradients leave the paper's range.",
    )


def _robust(study: StudyRecord) -> Claim:
    return Claim(
        "C4",
        "BatchNorm trains at any of six rates",
        "With BatchNorm, VGG38 trains over learning rates from 1e-4 to 5e-2.",
        "§5.4, Table 1",
        tuple(
            trains(study, f"lr-{rate}", f"VGG38 with BatchNorm at lr {rate}", control="vgg08")
            for rate in RATES
        ),
        yes="With BatchNorm VGG38 trains at any of six learning rates.",
        no="With BatchNorm VGG38 does not train at every one of the six learning rates.",
    )


def _generalizes(study: StudyRecord) -> Claim:
    pair, label = ("lr-0.01", "lr-0.001"), "lr 0.01 − lr 0.001"
    return Claim(
        "C5",
        "A tenfold rate generalizes better",
        "Learning rate 0.01 generalizes better than 0.001 at equal train accuracy.",
        "§5.4, Table 1",
        (
            beats(study, *pair, "valid", label),
            equals(study, *pair, "train", label, MARGIN),
        ),
        f"Equal means within {MARGIN:g}; the paper's are 0.547 and 0.547. That takes differences that "
        f"deviate by less than {MARGIN:g} · √n / t: 0.016 for five seeds, 0.024 for eight.",
        yes="Learning rate 0.01 generalizes better than 0.001.",
        no="Learning rate 0.01 does not generalize better than 0.001 at equal train accuracy here.",
    )


def _batches(study: StudyRecord) -> Claim:
    larger = [
        beats(study, f"batch-{size}", "batch-100", split, f"batch {size} − batch 100")
        for size in ("400", "800")
        for split in ("train", "valid")
    ]
    worst = [
        beats(study, f"batch-{size}", "batch-50", "valid", f"batch {size} − batch 50")
        for size in BATCHES
        if size != "50"
    ]
    return Claim(
        "C6",
        "Larger batches do better at lr 0.05",
        "At lr 0.05, batch sizes 400 and 800 beat 100 on train and validation accuracy; 50 is worst.",
        "§5.4, Table 2",
        (*larger, *worst),
        f"{BATCH_NAMES} At equal epochs, as in the paper, batch 800 makes an eighth of the updates of batch "
        "100: what is found is of both together, and the study of controls tells them apart.",
        yes="At equal epochs larger batches do better at learning rate 0.05.",
        no="At equal epochs, and so at fewer updates, larger batches do not do better at learning rate 0.05 "
        "here.",
    )


def _best_rate(study: StudyRecord) -> Claim:
    return Claim(
        "C9",
        "Learning rate 0.0005 trains best",
        "Of the six learning rates 0.0005 reaches the highest train accuracy, not what the paper expected.",
        "§5.4, Table 1",
        tuple(
            beats(study, f"lr-{BEST}", f"lr-{rate}", "train", f"lr {BEST} − lr {rate}")
            for rate in RATES
            if rate != BEST
        ),
        yes="Learning rate 0.0005 trains best.",
        no="Learning rate 0.0005 does not train best here.",
    )


PLACES = "VGG08 has no blocks: its BatchNorm is after every convolution, VGG38's after those of the blocks."
PAIRS = (("vgg08-bn", "vgg08"), ("vgg38-bn", "vgg38"), ("vgg38-bn", "vgg38-he"))


def _smooths(study: StudyRecord) -> Claim:
    """Decide C7 on the pairs of which both networks train; not testable if there is none."""
    pairs, aside = testable(study, PAIRS)
    return Claim(
        "C7",
        "BatchNorm smooths the loss",
        "BatchNorm smooths the loss landscape: the loss and its gradient become more Lipschitz.",
        "abstract, §5",
        smoother_at_equal_loss(study, pairs, study.labels()),
        joined([SMOOTHNESS, AT_EQUAL_LOSS, PLACES, aside]),
        yes="BatchNorm smooths the loss.",
        no="BatchNorm does not smooth the loss in all that was measured.",
    )


def _batches_smooth(study: StudyRecord) -> Claim:
    pair = {"batch-800": "batch 800", "batch-50": "batch 50"}
    common = fewest_steps(study, tuple(pair))
    return Claim(
        "C8",
        "Larger batches smooth more",
        "Larger batches enhance that smoothing.",
        "abstract, §6",
        (
            *(
                smoother(study, pair, what, "step", until)
                for what in ("lipschitz", "beta")
                for until in (math.inf, common)
            ),
            *flatter(study, pair),
        ),
        f"{SMOOTHNESS} At equal epochs, and over as many updates as the larger batch has; not at equal loss. "
        f"{BATCH_NAMES}",
        yes="Larger batches smooth more.",
        no="Larger batches do not smooth more here.",
    )
