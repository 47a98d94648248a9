"""Folders of runs and studies: nothing in them is lost or half-written."""
