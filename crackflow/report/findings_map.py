"""findings.geojson and findings.kml: findings on a map.

Synopsis::

    collection = findings_map.geojson(content)              # of findings.json; {"type": "FeatureCollection", ...}
    atomic.write_bytes("findings.kml", findings_map.kml(collection))

Where the ground below a photograph is known (`inference.ground_map`), its footprint is a polygon, each finding is a
polygon, and its middle lines are lines. Another photograph with a position is a point. GeoJSON follows RFC 7946:
WGS 84, longitude first, closed rings, the outer one counterclockwise. Not covered: photographs across the 180th
meridian.
"""

from xml.etree import ElementTree

import numpy as np

from crackflow.inference import ground_map

DEGREE_DIGITS = 9  # a tenth of a millimetre
KML_NAMESPACE = "http://www.opengis.net/kml/2.2"
COLOURS = {"cracked": "ff2020e0", "review": "ff20a0f0"}  # alpha, blue, green, red
OTHER_COLOUR, FILL = "ffa0a0a0", "40"
PHOTO_KEYS = ("path", "sha256", "label", "probability", "decision", "overlay")
PLACE_KEYS = ("altitude_m", "heading_deg", "heading_reference", "pitch_deg")
FINDING_KEYS = ("decision", "probability", "length_px_estimate", "length_mm_estimate", "width_px", "width_mm")


def geojson(content: dict) -> dict:
    """Returns the feature collection of `content`, which is that of findings.json.

    The property `kind` of a feature is photograph, finding or centerline, `position_of` ground or camera;
    `uncertainty_m` is that of its position in metres, null where it is unknown; `crs` is the CRS of the GeoTIFF.
    """
    features = []
    for photo in content["photos"]:
        ground = ground_map.of_photo(photo, content.get("mm_per_px"))
        width, height = photo["width"], photo["height"]
        footprint = _ring(ground, [[0, 0], [0, height], [width, height], [width, 0]]) if ground else None
        place = photo.get("place") or {}
        if ground and footprint:
            located = {"position_of": "ground", "uncertainty_m": ground.accuracy_m(), "crs": ground.crs or None}
            features.append(_feature("Polygon", [footprint], _photo_properties(photo) | located))
            for number, finding in enumerate(photo["findings"], 1):
                features += _finding_features(photo, number, finding, ground, located)
        elif place.get("latitude") is not None:
            located = {"position_of": "camera", "uncertainty_m": place.get("uncertainty_m"), "crs": None}
            coordinates = [place["longitude"], place["latitude"]]
            features.append(_feature("Point", coordinates, _photo_properties(photo) | located))
    return {"type": "FeatureCollection", "features": features}


def _photo_properties(photo: dict) -> dict:
    lengths = [
        finding["length_mm_estimate"] for finding in photo["findings"] if finding["length_mm_estimate"] is not None
    ]
    place = photo.get("place") or {}
    return {
        "kind": "photograph",
        **{name: photo[name] for name in PHOTO_KEYS},
        "findings": len(photo["findings"]),
        "length_mm_estimate": round(sum(lengths), 1) if lengths else None,
        **{name: place[name] for name in PLACE_KEYS if name in place},
    }


def _finding_features(
    photo: dict, number: int, finding: dict, ground: ground_map.GroundMap, located: dict
) -> list[dict]:
    """The outline of a finding and, where it has any, its middle lines."""
    properties = {"path": photo["path"], "finding": number}
    properties |= {name: finding[name] for name in FINDING_KEYS if name in finding} | located
    rings = [[ring] for ring in (_ring(ground, outline) for outline in finding["polygons"]) if ring]
    features = []
    if rings:
        kind, coordinates = ("Polygon", rings[0]) if len(rings) == 1 else ("MultiPolygon", rings)
        features.append(_feature(kind, coordinates, {"kind": "finding"} | properties))
    branches = [branch["points"] for branch in finding.get("centerline") or [] if len(branch["points"]) > 1]
    lines = [_rounded(ground.to_lonlat(points)) for points in branches]
    if lines:
        features.append(_feature("MultiLineString", lines, {"kind": "centerline"} | properties))
    return features


def _ring(ground: ground_map.GroundMap, outline: list) -> list | None:
    """A closed ring, counterclockwise seen from above, of an outline in pixels; None where it has no extent."""
    degrees = ground.to_lonlat(outline)
    if degrees is None:
        return None
    if (degrees[0] == degrees[-1]).all():
        degrees = degrees[:-1]
    if len(degrees) < 3:
        return None
    x, y = (degrees - degrees[0]).T  # differences, because an area of 1e-16 square degrees is lost beside 100 degrees
    if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:
        degrees = degrees[::-1]
    ring = _rounded(degrees)
    return [*ring, ring[0]]


def _rounded(degrees: np.ndarray) -> list[list[float]]:
    return [[round(float(value), DEGREE_DIGITS) for value in point] for point in degrees]


def _feature(kind: str, coordinates: list, properties: dict) -> dict:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def kml(collection: dict) -> bytes:
    """Returns a KML 2.2 file of what `geojson` returned: a placemark for each feature, coloured by its decision."""
    ElementTree.register_namespace("", KML_NAMESPACE)
    root = ElementTree.Element(f"{{{KML_NAMESPACE}}}kml")
    document = _child(root, "Document")
    _child(document, "name", "crackflow findings")
    for decision, colour in {**COLOURS, "other": OTHER_COLOUR}.items():
        style = ElementTree.SubElement(document, f"{{{KML_NAMESPACE}}}Style", id=decision)
        line = _child(style, "LineStyle")
        _child(line, "color", colour)
        _child(line, "width", "2")
        _child(_child(style, "PolyStyle"), "color", FILL + colour[2:])
    for feature in collection["features"]:
        _add_placemark(document, feature)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True)


def _add_placemark(document: ElementTree.Element, feature: dict) -> None:
    properties, geometry = feature["properties"], feature["geometry"]
    mark = _child(document, "Placemark")
    number = f", finding {properties['finding']}" if "finding" in properties else ""
    _child(mark, "name", f"{properties['path']}{number}")
    decision = properties["decision"]
    _child(mark, "styleUrl", f"#{decision if decision in COLOURS and number else 'other'}")
    data = _child(mark, "ExtendedData")
    for name, value in properties.items():
        if isinstance(value, str | int | float):
            entry = ElementTree.SubElement(data, f"{{{KML_NAMESPACE}}}Data", name=name)
            _child(entry, "value", str(value))
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Point":
        _child(_child(mark, "Point"), "coordinates", _tuples([coordinates]))
    elif kind == "Polygon":
        _add_polygon(mark, coordinates)
    else:
        group = _child(mark, "MultiGeometry")
        for part in coordinates:
            if kind == "MultiPolygon":
                _add_polygon(group, part)
            else:
                _child(_child(group, "LineString"), "coordinates", _tuples(part))


def _add_polygon(parent: ElementTree.Element, rings: list) -> None:
    boundary = _child(_child(parent, "Polygon"), "outerBoundaryIs")
    _child(_child(boundary, "LinearRing"), "coordinates", _tuples(rings[0]))


def _tuples(points: list) -> str:
    return " ".join(f"{longitude:.{DEGREE_DIGITS}f},{latitude:.{DEGREE_DIGITS}f}" for longitude, latitude in points)


def _child(parent: ElementTree.Element, name: str, text: str | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, f"{{{KML_NAMESPACE}}}{name}")
    element.text = None if text is None else "".join(mark for mark in text if mark.isprintable())  # XML 1.0
    return element
