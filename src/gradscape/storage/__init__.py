"""Files and folders of runs and studies, written so that nothing is lost or half-written."""
