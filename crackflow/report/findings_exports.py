"""The files that crackflow.predict writes for other programs, all of the content of findings.json.

Synopsis::

    findings_exports.require_packages(config.export)        # raises UserError, before hours of work
    warnings = findings_exports.write(folder, content, config.export)

Always findings.csv, and findings.geojson where any position is known; on request findings.dxf, findings.kml,
findings_coco.json, and yolo/ with labels.
"""

import os
from collections.abc import Collection

from crackflow.core import atomic, csv_files
from crackflow.core.config.trained import Export
from crackflow.data import coordinates
from crackflow.report import findings_cad, findings_labels, findings_map, findings_table

TABLE, GEOJSON, KML, DXF = "findings.csv", "findings.geojson", "findings.kml", "findings.dxf"
COCO, YOLO = "findings_coco.json", "yolo"
OWNED_FILES = (TABLE, GEOJSON, KML, DXF, COCO, f"{YOLO}/**")


def require_packages(export: Collection[Export]) -> None:
    """Raises: UserError when a format of `export` needs a package that is not installed."""
    if Export.DXF in export:
        findings_cad.require_ezdxf()


def write(folder: str, content: dict, export: Collection[Export]) -> list[str]:
    """Writes the files.

    Args:
        folder: the folder of results.
        content: of findings.json.
        export: the formats on request.

    Returns:
        Sentences for the user on what could not be written.
    """
    csv_files.save(os.path.join(folder, TABLE), findings_table.COLUMNS, findings_table.rows(content))
    collection = findings_map.geojson(content)
    if collection["features"]:
        atomic.save_json(folder, GEOJSON, collection)
        if Export.KML in export:
            atomic.write_bytes(os.path.join(folder, KML), findings_map.kml(collection))
    if Export.DXF in export:
        atomic.write_bytes(os.path.join(folder, DXF), findings_cad.as_dxf(content))
    if Export.COCO in export:
        atomic.save_json(folder, COCO, findings_labels.coco(content))
    if Export.YOLO in export:
        for path, text in findings_labels.yolo(content).items():
            atomic.write_text(os.path.join(folder, YOLO, path), text)
    return _warnings(content, bool(collection["features"]), export)


def _warnings(content: dict, is_located: bool, export: Collection[Export]) -> list[str]:
    warnings = []
    places = [photo["place"] for photo in content["photos"] if photo.get("place")]
    if any(place["latitude"] is None for place in places):
        reason = "" if coordinates.is_installed() else f": {coordinates.MISSING}"
        warnings.append(f"GeoTIFFs whose CRS can't be converted are left out of {GEOJSON}{reason}")
    if Export.KML in export and not is_located:
        warnings.append(f"--export: no {KML} was written, because no photograph has a position")
    return warnings
