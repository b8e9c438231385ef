"""Drawn photographs: surfaces, cracks, distractors and what lies about on a wall."""
