"""GeoTIFF files."""

import io

import numpy as np
import tifffile

from tests.helpers import support

UTM_32N, ZONE_17S = 25832, 32717
ORIGIN, METRES_PER_PX = (500_000.0, 5_200_000.0), 0.01


def geo_keys(epsg=UTM_32N, is_point=False, kind=1, unit=None):
    """The values of GeoKeyDirectoryTag. `kind`: 1 projected, 2 geographic."""
    keys = [(1024, kind), (1025, 2 if is_point else 1)]
    keys += [(3072 if kind == 1 else 2048, epsg)] if epsg else []
    keys += [(3076, unit)] if unit else []
    return [1, 1, 0, len(keys), *(number for key, value in keys for number in (key, 0, 1, value))]


def geotiff(pixels=None, origin=ORIGIN, size=METRES_PER_PX, matrix=None, nodata=None, tags=(), options=None, **keys):
    """A GeoTIFF of `pixels`. `matrix`: ModelTransformation, 16 numbers, instead of a tie point and a pixel size."""
    extra = [(34735, "H", None, geo_keys(**keys), True), *tags]
    if matrix is not None:
        extra.append((34264, "d", 16, matrix, True))
    elif origin is not None:
        extra += [(33550, "d", 3, (size, size, 0.0), True), (33922, "d", 6, (0, 0, 0, *origin, 0.0), True)]
    if nodata is not None:
        extra.append((42113, "s", 0, nodata, True))
    extra = [
        (tag, kind, len(values) if count is None else count, values, once) for tag, kind, count, values, once in extra
    ]
    pixels = support.picture(0) if pixels is None else pixels
    buffer = io.BytesIO()
    options = {"photometric": "rgb" if np.ndim(pixels) == 3 else "minisblack"} | (options or {})
    tifffile.imwrite(buffer, pixels, extratags=extra, metadata=None, **options)
    return buffer.getvalue()
