"""Pages with scripts: documents of trainings, and the page that draws them, live or from a file."""

__all__ = ["document", "page", "verdicts"]
