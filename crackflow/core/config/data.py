"""Flags of synth and convert."""

import dataclasses
import enum
import os

from crackflow.core.config.fields import option, require, require_at_least, require_given, require_positive


class Layout(enum.Enum):
    AUTO = "auto"
    CLASSES = "classes"
    SDNET = "sdnet"
    MASKS = "masks"
    COCO = "coco"
    YOLO = "yolo"
    LABELME = "labelme"
    CVAT = "cvat"
    CSV = "csv"


class Encoding(enum.Enum):
    JPEG = "jpeg"
    PNG = "png"
    RAW = "raw"


class GroupBy(enum.Enum):
    NEAR_DUPLICATES = "near_duplicates"
    CONTENT = "content"
    NONE = "none"


class Runner(enum.Enum):
    LOCAL = "local"
    BEAM = "beam"


class OnBad(enum.Enum):
    SKIP = "skip"
    FAIL = "fail"


class Surfaces(enum.Enum):
    CONCRETE = "concrete"
    VARIED = "varied"


@dataclasses.dataclass(frozen=True)
class SynthConfig:
    out: str = option("", "folder to make: Positive/, Negative/ and masks/")
    count: int = option(2000, "images to make, half of them cracked")
    image_px: int = option(227, "side of the square images, in pixels (227: as METU has them)")
    seed: int = option(0, "same seed and index: same image, whatever the number of workers")
    surfaces: Surfaces = option(
        Surfaces.CONCRETE,
        "concrete: as METU's photographs; varied: any ground, near and far, with what is no crack on it",
    )
    donors: str = option(
        "",
        "varied: dataset made by crackflow.convert, whose training split lends grounds and cracks; none: all are made",
    )
    workers: int = option(0, "processes; 0: one a core")
    overwrite: bool = option(False, "replace a folder that an earlier run of this command made")

    def __post_init__(self) -> None:
        require_given(self, ["out"])
        is_usable = not self.donors or self.surfaces is Surfaces.VARIED
        require(is_usable, "donors", "nothing without --surfaces=varied", self.donors)
        require(2 <= self.count <= 10_000_000, "count", "2 to 10,000,000", self.count)
        require(32 <= self.image_px <= 1024, "image_px", "32 to 1024", self.image_px)
        require_at_least(self, 0, ["seed", "workers"])


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    images: str = option("", "folder of photographs; never modified")
    out: str = option("", "dataset to make: shards, dataset.json, groups.csv, rejected.csv")
    image_px: int = option(0, "resize every image to this side, in pixels; 0: keep the images as they are")
    encoding: Encoding = option(Encoding.JPEG, "how pixels are stored in the records")
    split: tuple[float, ...] = option(
        (), "fractions of train,val,test; none: 0.8,0.1,0.1, or 0.7,0.2,0.1 of fewer than 100 images"
    )
    group_by: GroupBy = option(GroupBy.NEAR_DUPLICATES, "what must stay in one split")
    group_by_name: bool = option(
        True, "what is named as windows of one photograph (7001-12, 7001-13) stays in one split"
    )
    max_near_copies: int = option(
        0, "of near copies, such as frames of a fixed camera, keep so many of a class, every n-th of them; 0: all"
    )
    layout: Layout = option(Layout.AUTO, "how the folder is arranged")
    positive_class: str = option(
        "", "name of the class that means cracked, where it can't be guessed; of annotations, also several: a,b"
    )
    patch_px: int = option(128, "masks layout: side of the labelled windows, in pixels")
    min_crack_fraction: float = option(0.005, "masks layout: share of crack pixels that makes a window cracked")
    shards: int = option(0, "shards of the training split; 0: chosen from the number of images")
    workers: int = option(0, "processes; 0: one a core")
    runner: Runner = option(Runner.LOCAL, "local: processes here; beam: Apache Beam, on shared storage")
    beam_options: str = option("", "for Beam's pipeline, such as --runner=SparkRunner; none: its own runner, here")
    seed: int = option(0, "decides the split and the order of the records")
    on_bad: OnBad = option(
        OnBad.SKIP, "bad file: list it in rejected.csv and continue, or stop at the first", aliases=["on_error"]
    )
    max_megapixels: float = option(100.0, "larger pictures are rejected before they are decoded")
    jpeg_quality: int = option(95, "for pixels that have to be encoded again")
    overwrite: bool = option(False, "replace a dataset that crackflow wrote before")
    verify: str = option("", "check this dataset instead: every shard, record and image")
    join: tuple[str, ...] = option(
        (), "make one dataset of these instead, every image in the split it has", aliases=["merge"]
    )
    repeat: tuple[int, ...] = option(
        (), "with --join: how often an epoch takes each set's training images; none: once", aliases=["repeat_train"]
    )

    def __post_init__(self) -> None:
        require_given(self, [] if self.verify else ["out"] if self.join else ["images", "out"])
        folders = {os.path.realpath(folder) for folder in self.join}
        is_distinct = not self.join or (all(self.join) and len(folders) == len(self.join) > 1)
        require(is_distinct, "join", "two datasets or more, separated by commas, each once", ",".join(self.join))
        require(
            not (self.join and (self.images or self.verify)), "join", "neither --images nor --verify with it", "both"
        )
        is_valid = not self.repeat or (
            len(self.repeat) == len(self.join) and all(1 <= count <= 100 for count in self.repeat)
        )
        expected = "one number of 1 to 100 for each set of --join"
        require(is_valid, "repeat", expected, ",".join(map(str, self.repeat)))
        require(self.image_px == 0 or 8 <= self.image_px <= 4096, "image_px", "0, or 8 to 4096", self.image_px)
        require(8 <= self.patch_px <= 4096, "patch_px", "8 to 4096", self.patch_px)
        require_at_least(self, 0, ["max_near_copies", "shards", "workers", "seed"])
        require_positive(self, ["max_megapixels"])
        needless = self.beam_options and self.runner is not Runner.BEAM
        require(not needless, "beam_options", "nothing without --runner=beam", self.beam_options)
        require(1 <= self.jpeg_quality <= 100, "jpeg_quality", "1 to 100", self.jpeg_quality)
        require(0 < self.min_crack_fraction < 1, "min_crack_fraction", "a fraction", self.min_crack_fraction)
        legal = len(self.split) == 3 and all(0 <= part <= 1 for part in self.split)
        legal = not self.split or (legal and abs(sum(self.split) - 1) < 1e-6)
        require(legal, "split", "three fractions train,val,test that add up to 1", self.split)
