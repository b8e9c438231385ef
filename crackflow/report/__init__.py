"""Evaluations, predictions and searches as figures, files and self-contained HTML pages."""
