"""Statistics of few seeds: intervals, paired comparisons, rank correlation."""
