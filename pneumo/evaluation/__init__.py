"""Labels and probabilities -> figures with intervals, thresholds, subgroups, shortcuts."""
