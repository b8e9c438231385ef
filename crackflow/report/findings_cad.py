"""findings.dxf: findings as lines of a drawing, for CAD.

Synopsis::

    findings_cad.require_ezdxf()                            # raises UserError, before hours of work
    drawing = findings_cad.as_dxf(content)                  # bytes, of the content of findings.json

Units of the drawing: those of the CRS where all photographs are GeoTIFFs of one projected CRS, which lie where they
are; else millimetres where the scale of all photographs is known; else pixels. In the last two they lie side by side,
each with its frame and name, and y points up. Layers: FINDING_CRACKED, FINDING_REVIEW (closed outlines),
CENTERLINE_CRACKED, CENTERLINE_REVIEW and PHOTOGRAPH.
"""

import importlib
import io
import types
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core.errors import UserError
from crackflow.data import coordinates
from crackflow.inference import ground_map

# $INSUNITS of the DXF reference.
UNITLESS, MILLIMETRES = 0, 4
CRS_UNITS = {"metre": 6, "foot": 2, "us_survey_foot": 21}
GAP = 0.05  # between photographs side by side, as a fraction of the width of the one before
TEXT_HEIGHT = 0.02  # of the name, as a fraction of the height of the photograph
COLOURS = {"CRACKED": 1, "REVIEW": 30, "PHOTOGRAPH": 8}  # AutoCAD colour index: red, orange, grey
Points = Callable[[list], np.ndarray]  # pixels [N, 2] -> float64 [N, 2] of the drawing


class DrawingLayout(NamedTuple):
    """How photographs lie in the drawing. `unit`: its $INSUNITS; `to_points`: for each photograph."""

    unit: int
    to_points: list[Points]


def require_ezdxf() -> None:
    """Raises: UserError when ezdxf is not installed."""
    try:
        _ezdxf()
    except ImportError as error:
        raise UserError(
            "--export: dxf needs ezdxf, which is not installed: pip install 'crackflow[cad]', or leave dxf out"
        ) from error


def as_dxf(content: dict) -> bytes:
    """Draws the findings in `content`, that of findings.json. Returns a DXF file of AutoCAD 2010."""
    layout = _drawing_layout(content)
    drawing = _ezdxf().new("R2010")
    drawing.header["$INSUNITS"] = layout.unit
    drawing.header["$MEASUREMENT"] = int(layout.unit in (MILLIMETRES, CRS_UNITS["metre"]))
    space = drawing.modelspace()

    def layer(name: str) -> dict:
        if name not in drawing.layers:
            drawing.layers.add(name, color=COLOURS.get(name.rpartition("_")[2], 7))
        return {"layer": name}

    for photo, to_points in zip(content["photos"], layout.to_points, strict=True):
        width, height = photo["width"], photo["height"]
        frame = to_points([[0, 0], [width, 0], [width, height], [0, height]])
        space.add_lwpolyline(frame.tolist(), close=True, dxfattribs=layer("PHOTOGRAPH"))
        size = TEXT_HEIGHT * float(np.ptp(frame[:, 1]))
        name = "".join(mark for mark in photo["path"] if mark.isprintable())
        space.add_text(name, height=size, dxfattribs=layer("PHOTOGRAPH")).set_placement(frame.min(0) - (0, 1.5 * size))
        for finding in photo["findings"]:
            decision = finding["decision"].upper()
            for outline in finding["polygons"]:
                outline = outline[:-1] if outline[0] == outline[-1] else outline
                points = to_points(outline).tolist()
                space.add_lwpolyline(points, close=True, dxfattribs=layer(f"FINDING_{decision}"))
            for branch in finding.get("centerline") or []:
                points = to_points(branch["points"]).tolist()
                space.add_lwpolyline(points, dxfattribs=layer(f"CENTERLINE_{decision}"))
    text = io.StringIO()
    drawing.write(text)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _drawing_layout(content: dict) -> DrawingLayout:
    photos, mm_per_px = content["photos"], content.get("mm_per_px")
    grounds = [ground_map.of_photo(photo, mm_per_px) for photo in photos]
    systems = {ground.crs if ground and ground.source == ground_map.GEOTIFF else "" for ground in grounds}
    if len(systems) == 1 and "" not in systems:
        (crs,) = systems
        unit = next((ground.unit for ground in grounds if ground and ground.unit), "") or coordinates.unit_name(crs)
        if unit != coordinates.WGS84_UNIT:
            return DrawingLayout(CRS_UNITS.get(unit, UNITLESS), [ground.to_crs for ground in grounds if ground])
    scales = [(photo.get("scale") or {}).get("mm_per_px") or mm_per_px for photo in photos]
    is_scaled = all(scales)
    left, to_points = 0.0, []
    for photo, scale in zip(photos, scales, strict=True):
        factor = scale if is_scaled else 1.0
        to_points.append(_side_by_side(left, photo["height"], factor))
        left += photo["width"] * factor * (1 + GAP)
    return DrawingLayout(MILLIMETRES if is_scaled else UNITLESS, to_points)


def _side_by_side(left: float, height: int, factor: float) -> Points:
    """Pixels of a photograph to points of the drawing, its lower left corner at `left`, 0, y pointing up."""

    def to_points(pixels: list) -> np.ndarray:
        x, y = np.asarray(pixels, np.float64).T
        return np.stack([left + x * factor, (height - y) * factor], 1)

    return to_points


def _ezdxf() -> types.ModuleType:
    return importlib.import_module("ezdxf")
