"""Flags of augmentation, and its presets."""

import dataclasses
import enum
from typing import Any

from crackflow.core.config.fields import option, require, require_at_least, require_given


class Augment(enum.Enum):
    NONE = "none"
    D4 = "d4"
    STANDARD = "standard"
    STRONG = "strong"


# The strengths of each preset; none and d4 use none of these. They keep a crack in the image and visible, which
# tests/training/test_augment.py checks with the masks of synth.
PRESETS = {
    Augment.STANDARD: {
        "rotation": 15.0,
        "zoom": 0.15,
        "shear": 0.05,
        "shift": 0.05,
        "brightness": 0.1,
        "contrast": 0.2,
        "saturation": 0.3,
        "channel_gain": 0.05,
        "gamma": 0.2,
        "blur": 0.1,
        "sharpen": 0.1,
        "noise": 6.0,
    },
    Augment.STRONG: {
        "rotation": 45.0,
        "zoom": 0.3,
        "shear": 0.15,
        "shift": 0.05,
        "brightness": 0.15,
        "contrast": 0.4,
        "saturation": 1.0,
        "channel_gain": 0.15,
        "gamma": 0.5,
        "blur": 0.2,
        "sharpen": 0.2,
        "noise": 16.0,
        "erase": 0.2,
    },
}
GEOMETRIC_OPS = ("rotation", "zoom", "shear", "shift", "erase", "mixup")  # these move or remove a crack
USE_PRESET = -1.0


def _strength(name: str, help: str) -> Any:
    standard, strong = (PRESETS[preset].get(name, 0.0) for preset in (Augment.STANDARD, Augment.STRONG))
    return option(USE_PRESET, f"{help} (-1: as --augment says; standard {standard:g}, strong {strong:g})")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The random changes of training images, and how strong each may become."""

    augment: Augment = option(
        Augment.D4, "d4: exact flips and quarter turns; standard, strong: these and the following, on the device"
    )
    rotation: float = _strength("rotation", "degrees, either way")
    zoom: float = _strength("zoom", "up to 1+zoom larger or smaller")
    shear: float = _strength("shear", "tangent of the angle, either way")
    shift: float = _strength("shift", "share of the side, either way")
    brightness: float = _strength("brightness", "share of the grey range, either way")
    contrast: float = _strength("contrast", "up to 1+contrast times or a 1+contrast-th of the contrast")
    saturation: float = _strength("saturation", "from 1-saturation to 1+saturation times the colour")
    channel_gain: float = _strength("channel_gain", "each channel up to 1+gain times or a 1+gain-th")
    gamma: float = _strength("gamma", "exponents of 1/(1+gamma) to 1+gamma")
    blur: float = _strength("blur", "largest weight of each of the four neighbours, up to 0.2")
    sharpen: float = _strength("sharpen", "the same, taken away instead of added")
    noise: float = _strength("noise", "largest standard deviation, in grey levels")
    erase: float = _strength(
        "erase", "longest side of a rectangle, as a share of the picture's, in every second picture"
    )
    mixup: float = _strength("mixup", "largest share of another picture, up to 0.5; labels are mixed alike")

    def __post_init__(self) -> None:
        limits = {"rotation": 180, "zoom": 1, "shear": 1, "shift": 0.5, "brightness": 1, "contrast": 4, "saturation": 1}
        limits |= {"channel_gain": 1, "gamma": 4, "blur": 0.2, "sharpen": 0.5, "noise": 128, "erase": 1, "mixup": 0.5}
        for name, limit in limits.items():
            value = getattr(self, name)
            require(value == USE_PRESET or 0 <= value <= limit, name, f"0 to {limit}, or -1 for the preset's", value)

    def filled(self) -> "Augmentation":
        """Returns the same config with each -1 replaced by the value of the preset `augment`."""
        preset = PRESETS.get(self.augment, {})
        names = [field.name for field in dataclasses.fields(self) if field.name != "augment"]
        unset = [name for name in names if getattr(self, name) == USE_PRESET]
        strengths: dict[str, Any] = {name: preset.get(name, 0.0) for name in unset}
        return dataclasses.replace(self, **strengths)


@dataclasses.dataclass(frozen=True)
class PreviewConfig:
    data: str = option("", "dataset made by crackflow.convert")
    out: str = option("", "PNG file to write")
    augmentation: Augmentation = Augmentation(augment=Augment.STANDARD)
    image_px: int = option(128, "side of the pictures, in pixels")
    pictures: int = option(6, "rows: pictures of the training split")
    steps: int = option(
        9, "columns after the first, which is the picture itself: what training sees at steps 0, 1, ..."
    )
    seed: int = option(0, "as for crackflow.train: the same seed shows what that run sees")
    overwrite: bool = option(False, "replace the file")

    def __post_init__(self) -> None:
        require_given(self, ["data", "out"])
        require(self.out.lower().endswith(".png"), "out", "a file name that ends in .png", self.out)
        require(32 <= self.image_px <= 1024, "image_px", "32 to 1024", self.image_px)
        require(1 <= self.pictures <= 100, "pictures", "1 to 100", self.pictures)
        require(1 <= self.steps <= 100, "steps", "1 to 100", self.steps)
        require_at_least(self, 0, ["seed"])
