"""Metadata of a model."""

from crackflow.model import model_file

CARD = model_file.ModelMetadata(
    network="crackflow_s",
    classes=("clean", "crackéd"),
    threshold=0.375,
    temperature=1.5,
    image_px=32,
    channels=3,
    fingerprint="f" * 64,
    versions={"tensorflow": "2"},
    seed=4,
)
