"""Folders of runs and studies: nothing in them is lost or half-written."""

__all__ = ["files", "run_files", "run_folder", "run_summary", "study_folder", "tensors"]
