"""Issues and pull requests of public trackers, found apart from the reports that limits were set on.

Each cause is confirmed: `fix`, a maintainer or a merged patch says so; `asker`, who reported it says that the
repair helped; `code`, it is plain from the code.
"""

from __future__ import annotations

from public_failures import tracker_losses, tracker_outputs
from public_failures.case import Case

CASES: tuple[Case, ...] = (
    *tracker_outputs.CASES,
    *tracker_losses.CASES,
)

# Where each case was reported, on github.com, and who bears its cause out.
SOURCES = {
    "tracker/logistic-softmax-twice": ("Lightning-Universe/lightning-bolts#654", "fix"),
    "tracker/matching-softmax-twice": ("gitabcworld/MatchingNetworks#5", "code"),
    "tracker/recommender-sigmoid-twice": ("yudi-mars/daisyRec#15", "fix"),
    "tracker/autoencoder-standardized": ("mikesj-public/convolutional_autoencoder#9", "fix"),
    "tracker/siamese-sigmoid": ("keras-team/keras-io#2261", "fix"),
    "tracker/mlp-softmax-of-one": ("keras-team/keras#126", "code"),
    "tracker/counts-relu-output": ("jvargasmu/population_estimation#68", "asker"),
    "tracker/nerf-relu-density": ("munshisanowarraihan/nerf-meta#3", "fix"),
    "tracker/focal-log-of-zero": ("mkocabas/focal-loss-keras#17", "fix"),
    "tracker/weights-as-frequencies": ("mlcommons/GaNDLF#209", "fix"),
    "tracker/negative-pos-weight": ("automl/Auto-PyTorch#263", "fix"),
    "tracker/contrastive-alone-in-class": ("HobbitLong/SupContrast#142", "fix"),
    "tracker/distillation-without-log": ("microsoft/ProDA#20", "fix"),
    "tracker/detector-score-alone": ("tom-roddick/oft#6", "fix"),
    "tracker/root-of-silence": ("mpariente/pytorch_stoi#7", "fix"),
    "tracker/categorical-of-one": ("keras-team/keras#14729", "code"),
}
