"""Flags of crackflow.adapt."""

import dataclasses
import math

from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.data import ConvertConfig, Layout
from crackflow.core.config.fields import option, require, require_at_least, require_given, require_positive

FEW_WINDOWS, FEW_WINDOWS_STEPS = 40, 50


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How the weights are fitted to a few windows."""

    steps: int = option(
        0, "optimizer steps of each fit; 0: 50 for up to 40 windows, more with the root of their number"
    )
    batch_size: int = option(16, "windows a step, half of them cracked; half as many synthetic ones come with them")
    learning_rate: float = option(2e-3, "of Adam at the first step; it falls to 0 along half a cosine")
    label_smoothing: float = option(
        0.0, "how far labels are drawn towards 0.5, so that few windows aren't learnt by heart"
    )
    augmentation: Augmentation = Augmentation(augment=Augment.D4)

    def __post_init__(self) -> None:
        require_at_least(self, 0, ["steps"])
        require(self.batch_size >= 2 and self.batch_size % 2 == 0, "batch_size", "an even number", self.batch_size)
        require_positive(self, ["learning_rate"])
        require(0 <= self.label_smoothing < 1, "label_smoothing", "0 or more, below 1", self.label_smoothing)

    def steps_for(self, windows: int) -> int:
        """The optimizer steps of a fit to so many windows.

        On 20 + 20 windows of brickwork (three draws, 660 others): 150 steps of 32 windows at a rate of 0.001, 75 and 50
        of 16 at 0.002, and 100 of 16 at 0.001 gave a balanced accuracy of 0.949, 0.951, 0.959 and 0.945, a ROC AUC of
        0.993 to 0.994. The first takes four and six times as long as the second and third.
        """
        return self.steps or round(FEW_WINDOWS_STEPS * max(1.0, math.sqrt(windows / FEW_WINDOWS)))


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    images: str = option("", "labelled windows: a folder per class, or images/ and masks/; 10 of each class or more")
    reviews: tuple[str, ...] = option(
        (), "reviews.json of the findings page, one or several: windows are cut from them"
    )
    photos: str = option("", "with --reviews: the folder of the reviewed photographs")
    model: str = option("", "model.h5, or the run folder that holds it; none: the model that comes with crackflow")
    out: str = option("", "folder to make: model.h5, report.html, metrics.json")
    layout: Layout = option(Layout.AUTO, "how --images is arranged, as for crackflow.convert")
    positive_class: str = option("", "name of the folder of cracked windows, where it isn't clear")
    patch_px: int = option(0, "masks layout: side of the windows, in pixels; 0: that of the windows the model knows")
    min_crack_fraction: float = option(
        ConvertConfig.min_crack_fraction, "masks layout: share of crack pixels that makes a window cracked"
    )
    fine_tuning: FineTuning = FineTuning()
    folds: int = option(5, "parts of the cross-validation that says what the labels are worth")
    seed: int = option(0, "draws folds, batches and augmentation")
    workers: int = option(0, "processes that read images; 0: one per core")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one per core")
    deterministic: bool = option(False, "bit-identical repetition, slower")
    overwrite: bool = option(False, "replace a folder that crackflow.adapt wrote before")

    def __post_init__(self) -> None:
        require_given(self, ["out"])
        require(bool(self.images or self.reviews), "images", "a folder, or --reviews", self.images)
        require(bool(self.photos) == bool(self.reviews), "photos", "the photographs of --reviews", self.photos)
        require(self.patch_px == 0 or self.patch_px >= 8, "patch_px", "0, or 8 and more", self.patch_px)
        require(0 < self.min_crack_fraction < 1, "min_crack_fraction", "a fraction", self.min_crack_fraction)
        require(2 <= self.folds <= 20, "folds", "2 to 20", self.folds)
        require_at_least(self, 0, ["seed", "workers", "threads"])
