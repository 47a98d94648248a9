"""Limits of the rules on the loss, outputs, targets, inputs and modes, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

from gradscape.config.fields import settle
from gradscape.records.diagnosis import Symptom


@dataclass(frozen=True)
class LossLimits:
    """Limits beyond which what a watch has seen of the loss speaks for a verdict.

    Attributes:
        floor: Least loss that a bounded output can reach, over the loss of guessing.
        least_logit: Least value that an output can have, above which it cannot speak against a class.
        out_of_reach: Share of the targets' variance that an output cannot reach by its range.
        distribution: Sum of a sample's targets over classes, of a loss that takes one distribution.
        fewest_labels: Number of labels from which their counts are judged.
        enough: Number of steps, above which a loss is held against guessing's.
        begun: Number of steps below which a loss is early; from there on one that has never fallen stays.
        about: Late losses over guessing's, above which a loss is on its way down rather than at guessing.
        guessing: Late losses over those of the best output that is the same for all samples.
        learned: The same, below which a training works.
        tenth: Late losses over the first ones, below which a training works, where guessing's are unknown.
        constant: Number of steps, above which a loss that is one number is none that is learned from.
        diverged: Loss of the last quarter over the first values, or over guessing's.
        grown: Loss of the last quarter over the largest of the first, where guessing's is not known.
        broken: Share of steps whose loss is not finite.
        initial: First loss over that of an output without an opinion, of classes.
        initial_real: First mean square error over the targets' mean square.
        purity: Mean share of a batch's labels that are of its largest class.
        mixed: Share of all labels that are of their largest class, in batches that are of one class each.
        chance: Probability that shuffled batches differ as much.
        imbalance: Share of all labels that are of their largest class, if it is all that is predicted.
        shifted: Size of the inputs' mean over their standard deviation.
        size: Root mean square of inputs or targets.
        tiny: Largest size of an input.
        features: Standard deviation of one feature over that of another.
        copies: Share of samples that are equal to another one of their batch.
        apart: Distance of a batch's means from running means, in running standard deviations.
        untracked: Share of running statistics that is not of the batches that were trained on,
        gap: where eval mode differs from train mode by so many running deviations.
        kept: Share of a signal that strong dropouts leave, one after the other,
        dropped: where late losses over guessing's are so large.
        one_point: Spread of outputs over samples beside their size, and of most late losses beside theirs.
        sure: Logit of a discriminator for real samples, and against made ones.
        near_zero: Numbers that a loss divides by: the least of a hundred over the median.
        random: Probability of tokens that differ as much in frequency, if all are alike often.
        spike: Highest loss of a spike over the median of the steps before.
    """

    floor: float = 0.2
    least_logit: float = -0.5
    out_of_reach: float = 0.05
    distribution: float = 1.1
    fewest_labels: int = 300
    enough: int = 100
    begun: int = 50
    about: float = 1.1
    guessing: float = 0.97
    learned: float = 0.5
    tenth: float = 0.1
    constant: int = 20
    diverged: float = 3.0
    grown: float = 1e3
    broken: float = 0.05
    initial: float = 3.0
    initial_real: float = 100.0
    purity: float = 0.9
    mixed: float = 0.6
    chance: float = 1e-6
    imbalance: float = 0.8
    shifted: float = 10.0
    size: float = 30.0
    tiny: float = 0.01
    features: float = 1e3
    copies: float = 0.99
    apart: float = 3.0
    untracked: float = 0.5
    gap: float = 0.3
    kept: float = 0.2
    dropped: float = 0.9
    one_point: float = 1e-3
    sure: float = 3.0
    near_zero: float = 0.05
    random: float = 0.01
    spike: float = 1.5

    def __post_init__(self) -> None:
        settle(self, "limits.")

    def evidence(self, limit: str, what: str, value: float, below: bool = False) -> Symptom:
        """Return a value beside its limit.

        Args:
            limit: Name of the limit.
            what: What the value is, in words.
            value: Value.
            below: Whether values below the limit speak for the verdict.
        """
        return Symptom(what, float(value), float(getattr(self, limit)), SOURCES[limit], below)


SOURCES = {
    "floor": "a fifth of the loss of guessing stays, whatever the weights are",
    "least_logit": "log-odds of −0.5 are a probability of 0.38",
    "out_of_reach": "a twentieth of the targets' variance stays, whatever the weights are",
    "distribution": "probabilities sum to 1; a tenth more",
    "fewest_labels": "of 300 labels a class of one in a hundred is missing once in twenty times",
    "enough": "a network that learns has begun to by then",
    "begun": "a network that learns has begun to by then",
    "about": "a tenth above it",
    "guessing": "3 % is what chance and a drifting mean make of it",
    "learned": "half of what guessing costs is gone",
    "tenth": "nine tenths of the loss are gone",
    "constant": "no two mini-batches of 20 have the same loss by chance",
    "diverged": "three times what an output that is the same for all samples would give",
    "grown": "three orders of magnitude, and still growing",
    "broken": "a GradScaler leaves out a step in a hundred",
    "initial": "Karpathy (2019), A Recipe for Training Neural Networks: verify loss at init; three times",
    "initial_real": "outputs begin at ten times the targets' size",
    "purity": "nine of ten samples of a batch are of one class",
    "mixed": "of all labels that class is not nearly as frequent",
    "chance": "χ² test of whether batches are of one distribution; once in a million trainings",
    "imbalance": "four fifths: to name it always is right that often",
    "shifted": "what differs between samples is a tenth of what they share",
    "size": "inputs and targets of size 1 are what initial weights are made for (LeCun et al. 1998, §4.3)",
    "tiny": "a hundredth of the size that initial weights are made for (LeCun et al. 1998, §4.3)",
    "features": "three orders of magnitude between features that share a learning rate",
    "copies": "each sample is meant to be another",
    "apart": "three standard deviations: what the statistics were taken from is not what comes in",
    "untracked": "(1 − momentum) to the power of the batches: most are other data's, or 0 and 1",
    "gap": "a third of a unit's deviation; see Ioffe & Szegedy (2015), §3.1, on what inference uses",
    "kept": "Srivastava et al. (2014), fig. 9: training error rises where less than 0.4 is kept; half",
    "dropped": "nine tenths of what guessing costs are left",
    "one_point": "a thousandth: what differs between samples is next to rounding",
    "sure": "a probability of 95 %",
    "near_zero": "one in a hundred counts twenty times as much as another; Hyndman & Koehler (2006), §2.2",
    "random": "χ² test of a uniform distribution, which no language's tokens have",
    "spike": "and above what the scale and the tail of the noise explain; Coles (2001), §4",
}
