"""Bytes -> one grey film: the one truth about pixels, in training and in serving. Knows no model."""
