"""Labels and probabilities -> figures with intervals, calibration, thresholds, subgroups, shortcuts."""
