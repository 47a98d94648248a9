"""The paper's claims C1 to C8, each with the rule it is held to and the evidence of the study's runs.

Paper: "MLP Coursework 2: Investigating the Optimization of Convolutional Networks" (s1705386).
"""

from __future__ import annotations

import math

from gradscape.records import StudyRecord
from gradscape.report.claims import Claim, above, below, differences, equivalent, within
from gradscape.report.outcomes import beats, ended_flows, finals, first_conv, lacking, log10, slope, trains
from gradscape.report.runs import together, unfinished, window
from gradscape.report.smoothing import fewest_steps, smoother
from gradscape.report.spectra import flatter
from gradscape.study.batchnorm_names import BAND, BATCH_NAMES, BATCHES, NETWORKS, RATES

RATIO = 2.0  # C2: "orders of magnitude", read as at least two
VANISHED = 1e-18  # C2: the paper's 1e-20, within two orders of magnitude
MARGIN = 0.02  # C5: accuracies nearer than this count as equal; the paper's are 0.547 and 0.547
GUESSES = "A run that diverged counts as guessing."
SMOOTHNESS = (
    "The paper argues this from accuracies alone. Measured along the steps of training (Santurkar et al. "
    "2018, Fig. 4); less is smoother. "
)


def claims(study: StudyRecord) -> list[Claim]:
    """C1 to C8 with the evidence there is.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['C1 holds']
    """
    return [
        depth(study),
        vanishing(study),
        steady(study),
        robust(study),
        generalises(study),
        batches(study),
        smooths(study),
        batches_smooth(study),
    ]


def depth(study: StudyRecord) -> Claim:
    return Claim(
        "C1",
        "Depth fails without BatchNorm",
        "VGG08 trains on CIFAR-100; VGG38 without BatchNorm does not (about 1 % train accuracy).",
        "§2, Fig. 1c,d",
        (trains(study, "vgg08", "VGG08"), trains(study, "vgg38", "VGG38 without BatchNorm", below)),
    )


def vanishing(study: StudyRecord) -> Claim:
    missing = lacking(study, "vgg38")
    deep, shallow = ended_flows(study, "vgg38"), ended_flows(study, "vgg08")
    ratio = differences(first_conv(shallow), first_conv(deep))
    slopes = {seed: slope(log10(flow.mean(axis=0)[conv])) for seed, (flow, conv) in deep.items()}
    smallest = {seed: (float(flow.min()),) for seed, (flow, _) in deep.items()}
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
            within(
                "VGG38's smallest mean |∂L/∂W| of any layer and epoch", smallest, -math.inf, VANISHED, missing
            ),
        ),
        "A gradient of exactly 0 counts as the smallest float32, 1.4e-45, where a logarithm is taken.",
    )


def steady(study: StudyRecord) -> Claim:
    found = ended_flows(study, "vgg38-bn")
    values = {seed: [float(x) for x in flow[:, conv].ravel()] for seed, (flow, conv) in found.items()}
    return Claim(
        "C3",
        "BatchNorm keeps gradients in range",
        "With BatchNorm, VGG38's per-layer mean absolute gradients stay within [1e-4, 1e-1].",
        "§5.3, Fig. 2",
        (
            within(
                "lowest and highest mean |∂L/∂W| of VGG38 with BatchNorm over convolutions and epochs",
                values,
                *BAND,
                lacking(study, "vgg38-bn"),
            ),
        ),
    )


def robust(study: StudyRecord) -> Claim:
    return Claim(
        "C4",
        "BatchNorm trains at any of six rates",
        "With BatchNorm, VGG38 trains over learning rates from 1e-4 to 5e-2.",
        "§5.4, Table 1",
        tuple(trains(study, f"lr-{rate}", f"VGG38 with BatchNorm at lr {rate}") for rate in RATES),
    )


def generalises(study: StudyRecord) -> Claim:
    return Claim(
        "C5",
        "A tenfold rate generalises better",
        "Learning rate 0.01 generalises better than 0.001 at equal train accuracy.",
        "§5.4, Table 1",
        (
            beats(study, "lr-0.01", "lr-0.001", "valid", "lr 0.01 − lr 0.001"),
            equivalent(
                f"train accuracy, lr 0.01 − lr 0.001, {window(study, ['lr-0.01', 'lr-0.001'])}, "
                "paired by seed",
                differences(finals(study, "lr-0.01", "train"), finals(study, "lr-0.001", "train")),
                MARGIN,
                together(unfinished(study, "lr-0.01"), unfinished(study, "lr-0.001")),
            ),
        ),
        f"Equal means within {MARGIN:g}; the paper's are 0.547 and 0.547. {GUESSES}",
    )


def batches(study: StudyRecord) -> Claim:
    larger = [
        beats(study, f"batch-{size}", "batch-100", split, f"batch {size} − batch 100")
        for size in ("400", "800")
        for split in ("train", "valid")
    ]
    others = {size: finals(study, f"batch-{size}", "valid") for size in BATCHES}
    smallest = others.pop("50")
    seeds = set(smallest).intersection(*others.values())
    lead = {seed: min(values[seed] for values in others.values()) - smallest[seed] for seed in sorted(seeds)}
    worst = above(
        "validation accuracy, the lowest of the other batch sizes − batch 50, "
        f"{window(study, [f'batch-{size}' for size in BATCHES])}, paired by seed",
        lead,
        0.0,
        together(*(unfinished(study, f"batch-{size}") for size in BATCHES)),
    )
    return Claim(
        "C6",
        "Larger batches do better at lr 0.05",
        "At lr 0.05, batch sizes 400 and 800 beat 100 on train and validation accuracy; 50 is worst.",
        "§5.4, Table 2",
        (*larger, worst),
        f"{BATCH_NAMES} {GUESSES}",
    )


def smooths(study: StudyRecord) -> Claim:
    normed = {"vgg38-bn": "VGG38 with BatchNorm"}
    pairs = [normed | {role: NETWORKS[role]} for role in ("vgg38", "vgg38-he")]
    return Claim(
        "C7",
        "BatchNorm smooths the loss",
        "BatchNorm smooths the loss landscape: the loss and its gradient become more Lipschitz.",
        "abstract, §5",
        (
            *(
                smoother(study, pair, what, along)
                for pair in pairs
                for what in ("lipschitz", "beta")
                for along in ("gradient", "step", "relative")
            ),
            *(part for pair in pairs for part in flatter(study, pair)),
        ),
        f"{SMOOTHNESS}A network that does not train lies on a plateau: flat, it counts as smooth.",
    )


def batches_smooth(study: StudyRecord) -> Claim:
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
        f"{SMOOTHNESS}At equal epochs, and over as many updates as the larger batch has. {BATCH_NAMES}",
    )
