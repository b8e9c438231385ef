"""Flags of the commands that use a trained model."""

import dataclasses
import enum

from crackflow.core.config.card import MarkerDictionary
from crackflow.core.config.data import ConvertConfig
from crackflow.core.config.fields import (
    option,
    require,
    require_at_least,
    require_fraction,
    require_given,
    require_non_negative,
    require_positive,
)
from crackflow.core.config.threshold import RULES, ThresholdRule


class Method(enum.Enum):
    GRAD_CAM = "grad_cam"
    GRAD_CAM_PLUS_PLUS = "grad_cam_plus_plus"
    HIRES_CAM = "hires_cam"
    LAYER_CAM = "layer_cam"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


class Toward(enum.Enum):
    DECIDED = "decided"
    CRACKED = "cracked"
    CLEAN = "clean"


class EvalSplit(enum.Enum):
    TEST = "test"
    TRAIN = "train"
    VAL = "val"
    ALL = "all"


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    model: str = option("", "model.h5, the run folder that holds it, or shipped: the model that comes with crackflow")
    data: tuple[str, ...] = option((), "datasets made by crackflow.convert, separated by commas")
    split: EvalSplit = option(EvalSplit.TEST, "which part of each dataset")
    out: str = option("", "folder to make: metrics.json, curves, errors, report.html")
    threshold: str = option("", f"choose it anew on the first dataset's val split: {RULES}; none: the model's own")
    photographs: int = option(
        250, "images of each dataset that are also decided as crackflow.predict does, drawn at random; 0: none"
    )
    batch_size: int = option(128, "images scored at once")
    resamples: int = option(
        1000, "bootstrap samples behind the intervals of f1 and the areas", aliases=["bootstrap_samples"]
    )
    seed: int = option(0, "draws the bootstrap samples")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace results that crackflow wrote before")

    def __post_init__(self) -> None:
        require_given(self, ["model", "out"])
        require(all(self.data) and len(self.data) > 0, "data", "one dataset or more, separated by commas", self.data)
        if self.threshold:
            ThresholdRule.parse(self.threshold)
        require_at_least(self, 1, ["batch_size"])
        require_at_least(self, 100, ["resamples"])
        require_at_least(self, 0, ["photographs", "seed", "threads"])


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    model: str = option("", "model.h5, the run folder that holds it, or shipped: the model that comes with crackflow")
    images: str = option("", "a photograph, or a folder of them")
    masks: str = option("", "folder of masks with the names of the photographs: the maps are scored against them")
    out: str = option("", "folder to make: overlays, filters, activation maps, contact sheet, scores.json")
    # The best of the six on DeepCrack in pointing, energy inside the mask and IoU: benchmarks/results/explain.json.
    method: tuple[Method, ...] = option(
        (Method.INTEGRATED_GRADIENTS,), f"one or several of {', '.join(member.value for member in Method)}"
    )
    toward: Toward = option(
        Toward.DECIDED, "explain the class that was decided for, or always this one", aliases=["target_class"]
    )
    layers: tuple[str, ...] = option(
        (), "layers to take maps from and to show; none: each method's own, and for showing the first and every stage"
    )
    patch_px: int = option(0, "cut photographs into windows of this side, in pixels; 0: each is one image")
    min_crack_fraction: float = option(
        ConvertConfig.min_crack_fraction, "with --masks: share of crack pixels that makes a picture cracked"
    )
    sample: int = option(
        200, "pictures whose maps are scored against the network, drawn at random; 0: none", aliases=["num_scored"]
    )
    max_megapixels: float = option(ConvertConfig.max_megapixels, "larger pictures are left out")
    batch_size: int = option(32, "pictures explained at once")
    seed: int = option(0, "draws the sample and the random weights")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace results that crackflow wrote before")

    def __post_init__(self) -> None:
        require_given(self, ["model", "images", "out"])
        require(len(self.method) == len(set(self.method)) > 0, "method", "one method or more, each once", self.method)
        require(self.patch_px == 0 or self.patch_px >= 8, "patch_px", "0, or 8 and more", self.patch_px)
        require(0 < self.min_crack_fraction < 1, "min_crack_fraction", "a fraction", self.min_crack_fraction)
        require_positive(self, ["max_megapixels"])
        require_at_least(self, 1, ["batch_size"])
        require_at_least(self, 0, ["sample", "seed", "threads"])


class Export(enum.Enum):
    DXF = "dxf"
    KML = "kml"
    COCO = "coco"
    YOLO = "yolo"


SCALE_RANGE = 1 / 64, 8.0  # a photograph of 12 megapixels has 770 when it is enlarged 8 times


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    photos: str = option("", "a photograph, a folder of them, or a pattern such as 'site/*.jpg'")
    model: str = option("", "model.h5, or the run folder that holds it; none: the model that comes with crackflow")
    out: str = option("findings", "folder to make: predictions.csv, findings.json, overlays, report.html")
    scale: float = option(
        0.0, "look at the photographs made so many times as large as training's were; 0: as large, and half and twice"
    )
    mm_per_px: float = option(
        0.0, "what one pixel of the photographs is on the surface, in mm: gives lengths, and the scale; 0: unknown"
    )
    marker_mm: float = option(
        0.0, "side of a marker in the photographs in mm, such as that of crackflow.card: gives the scale; 0: none"
    )
    marker_dictionary: MarkerDictionary = option(
        MarkerDictionary.APRILTAG_36H11, "which markers are looked for; that of crackflow.card is apriltag_36h11"
    )
    scales: str = option("", "CSV file with the columns path and mm_per_px: the scale of each photograph")
    distance_m: float = option(
        0.0, "from the camera to the surface in m: gives the scale of photographs whose EXIF has a focal length"
    )
    threshold: float = option(0.0, "cracked from this probability on, in photographs of any size; 0: the model's own")
    expected_cracked: float = option(
        0.0, "share of the photographs expected to be cracked: adds probabilities at that share; 0: unknown"
    )
    suggest: int = option(
        0, "cut so many windows, those that labelled would teach the model most, to suggested/; 0: none"
    )
    export: tuple[Export, ...] = option(
        (), f"also write the findings as one or several of {', '.join(member.value for member in Export)}"
    )
    max_megapixels: float = option(200.0, "larger photographs are left out, but for GeoTIFFs, which are read in parts")
    page_photos: int = option(100, "photographs in report.html, the most probable first", aliases=["max_photos"])
    reviews: tuple[str, ...] = option(
        (), "reviews.json of the page, one or several: report.html goes on with them, findings.json counts them"
    )
    replay: str = option(
        "",
        "findings.json of an earlier run: predict its photographs again, with the flags of that run, and say whether "
        "all findings are equal; writes nothing",
    )
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace results that crackflow wrote before")

    def __post_init__(self) -> None:
        require_given(self, ["photos", "out"])
        low, high = SCALE_RANGE
        require(self.scale == 0 or low <= self.scale <= high, "scale", f"0, or {low:g} to {high:g}", self.scale)
        require_non_negative(self, ["mm_per_px", "marker_mm", "distance_m"])
        require_fraction(self, ["threshold", "expected_cracked"])
        require_positive(self, ["max_megapixels"])
        require_at_least(self, 0, ["threads", "page_photos", "suggest"])
        require(all(self.reviews), "reviews", "files, separated by commas", self.reviews)
        require(len(self.export) == len(set(self.export)), "export", "formats, each once", self.export)


class Format(enum.Enum):
    SAVEDMODEL = "savedmodel"
    TFLITE = "tflite"
    ONNX = "onnx"


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    model: str = option("", "model.h5, or the run folder that holds it; none: the model that comes with crackflow")
    out: str = option("", "folder to make: the formats, and parity.json with what each of them is worth")
    formats: tuple[Format, ...] = option(tuple(Format)[:2], f"one or several of {', '.join(f.value for f in Format)}")
    data: str = option(
        "",
        "dataset made by crackflow.convert: its training images calibrate int8, its test images prove it; none: "
        "synthetic surfaces",
    )
    images: int = option(256, "images on which every format is run and compared")
    seed: int = option(0, "draws the synthetic surfaces")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace an export that crackflow made before")

    def __post_init__(self) -> None:
        require_given(self, ["out"])
        require(len(self.formats) == len(set(self.formats)) > 0, "formats", "one or more, each once", self.formats)
        require(16 <= self.images <= 100_000, "images", "16 to 100,000", self.images)
        require_at_least(self, 0, ["seed", "threads"])
