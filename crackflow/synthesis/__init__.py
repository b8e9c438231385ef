"""Synthetic photographs: surfaces, cracks and distractors."""
