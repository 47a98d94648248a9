"""Statistics of few seeds: intervals, paired comparisons, rank correlation."""

__all__ = ["paired", "rank_correlation", "student_t"]
