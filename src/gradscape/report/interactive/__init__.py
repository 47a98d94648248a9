"""Pages with scripts, live or from a file: documents of trainings and studies, and what draws them."""

__all__ = ["document", "page", "study", "verdicts"]
