"""Figures, tables and pages of a study, without torch."""

__all__ = ["build", "figures", "interactive", "pages", "table_cells", "tables"]
