"""Folders of runs and studies: nothing in them is lost or half-written."""

__all__ = [
    "checkpoint",
    "epoch_files",
    "files",
    "json_files",
    "lock",
    "run_folder",
    "run_status",
    "run_summary",
    "study_folder",
]
