"""findings.csv: a row for each finding, for spreadsheets and databases.

Synopsis::

    rows = findings_table.rows(content)                     # of findings.json
    csv_files.save("findings.csv", findings_table.COLUMNS, rows)

A cell is empty where its value is unknown. `position_of` says whether latitude and longitude are those of the middle of
the finding's box, or of the camera. Easting and northing, of the same middle, are in `crs_unit` of `crs`.
"""

from collections.abc import Iterator

from crackflow.inference import ground_map

WIDTHS = ("median", "p95", "max")
COLUMNS = (
    *("path", "finding", "decision", "probability", "box_x_px", "box_y_px", "box_width_px", "box_height_px"),
    *("length_px", "length_mm"),
    *(f"width_{name}_{unit}" for unit in ("px", "mm") for name in WIDTHS),
    *("position_of", "latitude_deg", "longitude_deg", "uncertainty_m", "easting", "northing", "crs", "crs_unit"),
)
DEGREE_DIGITS, METRE_DIGITS = 9, 4  # a tenth of a millimetre


def rows(content: dict) -> Iterator[tuple]:
    """Yields the cells of each finding in `content`, which is that of findings.json, in the order of COLUMNS."""
    for photo in content["photos"]:
        ground = ground_map.of_photo(photo, content.get("mm_per_px"))
        for number, finding in enumerate(photo["findings"], 1):
            cells = [photo["path"], number, finding["decision"], f"{finding['probability']:.6f}", *finding["box"]]
            cells += [finding["length_px_estimate"], finding["length_mm_estimate"]]
            cells += [_width(finding, unit, name) for unit in ("px", "mm") for name in WIDTHS]
            cells += _position(photo, finding, ground)
            yield tuple("" if cell is None else cell for cell in cells)


def _width(finding: dict, unit: str, name: str) -> float | None:
    widths = finding.get(f"width_{unit}")
    return widths[name]["value"] if widths and widths.get(name) else None


def _position(photo: dict, finding: dict, ground: ground_map.GroundMap | None) -> list:
    """The cells from `position_of` on."""
    place = photo.get("place") or {}
    if ground is None:
        is_known = place.get("latitude") is not None
        degrees = [place["latitude"], place["longitude"], place.get("uncertainty_m")] if is_known else [None] * 3
        return ["camera" if is_known else None, *degrees, None, None, None, None]
    x, y, width, height = finding["box"]
    middle = [[x + width / 2, y + height / 2]]
    lonlat, coordinates = ground.to_lonlat(middle), ground.to_crs(middle)
    cells: list = ["finding", None, None, None]
    if lonlat is not None:
        longitude, latitude = (round(float(value), DEGREE_DIGITS) for value in lonlat[0])
        cells[1:] = [latitude, longitude, ground.accuracy_m()]
    if coordinates is None:
        return [*cells, None, None, None, None]
    digits = DEGREE_DIGITS if ground.unit == "degree" else METRE_DIGITS
    return [*cells, *(round(float(value), digits) for value in coordinates[0]), ground.crs or None, ground.unit or None]
