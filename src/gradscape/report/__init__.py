"""Figures, tables and pages of a study, without torch."""

__all__ = ["build", "figures", "pages", "table_cells", "tables"]
