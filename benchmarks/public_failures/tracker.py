"""Issues and pull requests of public trackers, found apart from the reports that limits were set on.

Each cause is confirmed: `fix`, a maintainer or a merged patch says so; `asker`, who reported it says that the
repair helped; `code`, it is plain from the code.
"""

from __future__ import annotations

from public_failures import (
    tracker_berts,
    tracker_data,
    tracker_loops,
    tracker_losses,
    tracker_networks,
    tracker_objectives,
    tracker_outputs,
    tracker_shapes,
)
from public_failures.case import Case

CASES: tuple[Case, ...] = (
    *tracker_outputs.CASES,
    *tracker_losses.CASES,
    *tracker_shapes.CASES,
    *tracker_networks.CASES,
    *tracker_loops.CASES,
    *tracker_berts.CASES,
    *tracker_data.CASES,
    *tracker_objectives.CASES,
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
    "tracker/ppo-advantage-broadcast": ("RITCHIEHuang/DeepRL_Algorithms#13", "asker"),
    "tracker/pointnet-softmax-over-batch": ("fxia22/pointnet.pytorch#27", "fix"),
    "tracker/mixture-shares-over-batch": ("ctallec/world-models#10", "fix"),
    "tracker/dqn-lstm-over-batch": ("AndersonJo/dqn-pytorch#1", "fix"),
    "tracker/attention-softmax-over-batch": ("PetrochukM/PyTorch-NLP#2", "code"),
    "tracker/rnn-regressor-broadcast": ("sktime/sktime#10931", "fix"),
    "tracker/positions-without-gradient": ("espnet/espnet#465", "asker"),
    "tracker/positions-unused": ("Lightning-AI/pytorch-lightning#20099", "fix"),
    "tracker/no-causal-mask": ("pytorch/tutorials#2478", "fix"),
    "tracker/hidden-layers-in-list": ("pytorch/pytorch#715", "fix"),
    "tracker/embeddings-too-large": ("pytorch/pytorch#3121", "asker"),
    "tracker/vae-decoder-untrained": ("zdebruine/MMVAE#39", "fix"),
    "tracker/dropout-always": ("rixwew/pytorch-fm#21", "fix"),
    "tracker/batchnorm-statistics-not-kept": ("hiwonjoon/tf-frrn#2", "fix"),
    "tracker/gradients-never-cleared": ("yastrebksv/TennisCourtDetector#7", "fix"),
    "tracker/schedule-by-batches": ("Lornatang/SRGAN-PyTorch#1", "fix"),
    "tracker/clipped-while-scaled": ("Lightning-AI/pytorch-lightning#9599", "fix"),
    "tracker/adam-forgets": ("raskr/rust-autograd#16", "fix"),
    "tracker/weights-in-bfloat16": ("areal-project/AReaL#1369", "fix"),
    "tracker/decay-to-nothing": ("tinghuiz/SfMLearner#34", "asker"),
    "tracker/one-epoch": ("intel/ipex-llm#464", "fix"),
    "tracker/bert-learning-rate": ("graykode/nlp-tutorial#77", "asker"),
    "tracker/bert-decay-within-adam": ("codertimo/BERT-pytorch#32", "asker"),
    "tracker/inputs-shuffled-alone": ("DrexelChatbotGroup/DrexelChatbot#15", "fix"),
    "tracker/draw-divided-twice": ("pkmital/pycadl#5", "fix"),
    "tracker/one-sample-only": ("NVIDIA-Genomics-Research/AtacWorks#195", "fix"),
    "tracker/dqn-end-ignored": ("cyoon1729/deep-Q-networks#3", "code"),
    "tracker/triplets-collapse": ("omoindrot/tensorflow-triplet-loss#37", "asker"),
    "tracker/vae-posterior-collapse": ("AppliedDataSciencePartners/WorldModels#12", "asker"),
    "tracker/wgan-generator-turned": ("Zeleni9/pytorch-wgan#53", "fix"),
    "tracker/entropy-turned": ("google-deepmind/open_spiel#962", "fix"),
}
