"""A training run on disk and what happens between its epochs. Imports core and model."""
