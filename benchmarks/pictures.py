"""The pictures of the README, made anew.

  python -m benchmarks.pictures             docs/images/surfaces.jpg

The report's picture is a screenshot of the page that launch/quickstart.sh leaves (quickstart/run/report.html).
"""

import numpy as np
from PIL import Image

from benchmarks import harness
from crackflow.data import synthetic

COLUMNS, PX, GAP = 8, 160, 4


def main() -> None:
    """Two rows of made surfaces: cracked above, clean below."""
    rows = [
        [synthetic.make(seed=1, index=2 * column + label, image_px=PX).image for column in range(COLUMNS)]
        for label in (1, 0)
    ]
    sheet = np.full((2 * PX + GAP, COLUMNS * (PX + GAP) - GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet[y * (PX + GAP) : y * (PX + GAP) + PX, x * (PX + GAP) : x * (PX + GAP) + PX] = picture
    place = harness.REPOSITORY / "docs" / "images" / "surfaces.jpg"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(place, quality=88)


if __name__ == "__main__":
    main()
