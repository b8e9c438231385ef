"""Like turbojpeg_limit, with the settings of crackflow's stream: the accurate inverse DCT.

Synopsis::

    python benchmarks/peers/turbojpeg_accurate.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.peers import turbojpeg_limit

if __name__ == "__main__":
    turbojpeg_limit.serve("turbojpeg_accurate", fast=False)
