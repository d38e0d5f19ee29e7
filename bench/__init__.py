"""Measured comparisons. ``make bench`` runs them; results lie in ``bench/results``. Figures are ratios within one run."""
