"""Flags of card, and the markers that predict looks for."""

import dataclasses
import enum

from crackflow.core.config.fields import option, require, require_given


class MarkerDictionary(enum.Enum):
    APRILTAG_36H11 = "apriltag_36h11"
    APRILTAG_25H9 = "apriltag_25h9"
    APRILTAG_16H5 = "apriltag_16h5"
    ARUCO_4X4_50 = "aruco_4x4_50"
    ARUCO_5X5_100 = "aruco_5x5_100"
    ARUCO_6X6_250 = "aruco_6x6_250"
    ARUCO_7X7_1000 = "aruco_7x7_1000"
    ARUCO_ORIGINAL = "aruco_original"


class Paper(enum.Enum):
    A5 = "a5"
    A4 = "a4"


# The lines and the ruler need 118 mm of width and 95 mm of height beside the marker; margins are 15 mm.
MAX_MARKER_MM = {Paper.A5: 90.0, Paper.A4: 160.0}
MIN_MARKER_MM = 10.0  # a module of 1 mm


@dataclasses.dataclass(frozen=True)
class CardConfig:
    out: str = option("card.pdf", "file to make, by its ending: .pdf, .svg or .png (600 dpi)")
    marker_mm: float = option(50.0, "side of the marker's black square in mm; predict needs the same --marker_mm")
    paper: Paper = option(Paper.A5, "size of the page: a5 (148 x 210 mm) or a4 (210 x 297 mm)")
    overwrite: bool = option(False, "replace the file")

    def __post_init__(self) -> None:
        require_given(self, ["out"])
        endings = (".pdf", ".svg", ".png")
        require(self.out.lower().endswith(endings), "out", f"a name that ends in {' or '.join(endings)}", self.out)
        limit = MAX_MARKER_MM[self.paper]
        expected = f"{MIN_MARKER_MM:g} to {limit:g} mm on {self.paper.value} paper"
        require(MIN_MARKER_MM <= self.marker_mm <= limit, "marker_mm", expected, self.marker_mm)
