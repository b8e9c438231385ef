"""Make the scale card to print: a marker, lines of 0.1 to 2.0 mm, a ruler to check the print.

  python -m crackflow.card --out=card.pdf
  python -m crackflow.card --out=card.pdf --paper=a4 --marker_mm=120      # for a photograph from farther away
  python -m crackflow.predict --photos='site/*.jpg' --marker_mm=50        # photographs with the card on the wall

With the card in the picture crackflow.predict knows the millimetres of a pixel, corrects the view, and says what it
reads the lines as. docs/SCALE.md says how to place it. Needs pip install 'crackflow[scale]'.
"""

import os

from crackflow.core import atomic, callable_module, console, flags, temporary_files
from crackflow.core.config.card import CardConfig
from crackflow.core.errors import UserError
from crackflow.report import card_drawing


def run(config: CardConfig) -> str:
    """Write the card.

    Returns:
        The path of the file.

    Raises:
        UserError: the file exists, or OpenCV is not installed.
    """
    if os.path.lexists(config.out) and not (config.overwrite and os.path.isfile(config.out)):
        raise UserError(
            f"--out: expected a new file, received {config.out!r}, which exists; replace it with --overwrite"
        )
    data = card_drawing.render(config, os.path.splitext(config.out)[1][1:].lower())
    temporary_files.remove_leftovers(*os.path.split(os.path.abspath(config.out)))
    atomic.write_bytes(config.out, data)
    console.info(
        f"{config.out}: print it at 100 %, check the ruler, and give crackflow.predict --marker_mm={config.marker_mm:g}"
    )
    return config.out


callable_module.install(__name__, CardConfig, run)
if __name__ == "__main__":
    flags.main(CardConfig, run, __doc__)
