"""The verbs of crackflow: what each is for, and the config of its flags.

Synopsis::

    verbs.CONFIGS["train"]          # TrainConfig
    verbs.summary("train")          # "Train a crack classifier on a dataset made by crackflow.convert."
"""

import ast
import importlib.util
import pathlib

from crackflow.core.config.adapt import AdaptConfig
from crackflow.core.config.augmentation import PreviewConfig
from crackflow.core.config.card import CardConfig
from crackflow.core.config.data import ConvertConfig, SynthConfig
from crackflow.core.config.search import TuneConfig
from crackflow.core.config.tools import DataServiceConfig, DoctorConfig
from crackflow.core.config.trained import EvaluateConfig, ExplainConfig, ExportConfig, PredictConfig
from crackflow.core.config.training import TrainConfig

CONFIGS = {
    "synth": SynthConfig,
    "convert": ConvertConfig,
    "augment_preview": PreviewConfig,
    "train": TrainConfig,
    "adapt": AdaptConfig,
    "tune": TuneConfig,
    "evaluate": EvaluateConfig,
    "explain": ExplainConfig,
    "card": CardConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "doctor": DoctorConfig,
    "data_service": DataServiceConfig,
}  # in the order in which one uses them


def summary(verb: str) -> str:
    """Returns the first sentence of the verb's page, read without importing it: that would load TensorFlow."""
    spec = importlib.util.find_spec(f"crackflow.{verb}")
    assert spec and spec.origin  # noqa: S101 - a verb has a file
    text = ast.get_docstring(ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
