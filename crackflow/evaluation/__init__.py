"""Metrics, thresholds, and what a model is worth."""
