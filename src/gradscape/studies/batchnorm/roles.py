"""Labels of the BatchNorm study's roles, in its report and its claims."""

from __future__ import annotations

from gradscape.analysis.run_status import members
from gradscape.records.run import StudyRecord

RATES = ("0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05")
BATCHES = ("50", "100", "150", "200", "400", "800")
BAND = (1e-4, 1e-1)  # §5.3: range of gradients with BatchNorm
NETWORKS = {
    "vgg08": "VGG08",
    "vgg08-bn": "VGG08 + BatchNorm",
    "vgg38": "VGG38",
    "vgg38-bn": "VGG38 + BatchNorm",
    "vgg38-he": "VGG38, He initialization",
}
BATCH_NAMES = "Batch sizes are the paper's names for the runs."


def batch_used(study: StudyRecord, size: str) -> str:
    """Return the batch sizes that the runs of `batch-N` had, in words.

    Args:
        study: Record of a study.
        size: Batch size in the paper.
    """
    runs = members(study, f"batch-{size}").values()
    used = sorted({int(run.config["batch_size"]) for run in runs if run is not None})
    return ", ".join(map(str, used)) or "–"


def batch_label(study: StudyRecord, size: str) -> str:
    """Return a batch size's label, with the size that the runs had where it differs.

    Args:
        study: Record of a study.
        size: Batch size in the paper.
    """
    used = batch_used(study, size)
    return f"batch {size}" if used in (size, "–") else f"batch {size}, here {used}"


def batch_labels(study: StudyRecord) -> dict[str, str]:
    """Return the label of each role `batch-N`.

    Args:
        study: Record of a study.
    """
    return {f"batch-{size}": batch_label(study, size) for size in BATCHES}
