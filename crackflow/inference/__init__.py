"""Trained models on photographs of any size."""
