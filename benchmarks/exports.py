"""The shipped model in each exported format, in that format's runtime: difference, accuracy, size, milliseconds.

  python -m benchmarks.exports --json=benchmarks/results/exports.json

Runs `crackflow.export` as a user would, on METU: int8 is calibrated on training images; all formats are compared on 256
test images. Milliseconds: one image at a time, median of 50.
"""

import json
import pathlib
import sys
import tempfile

from benchmarks import harness


def main() -> None:
    options = harness.arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        data, out = pathlib.Path(folder) / "metu", pathlib.Path(folder) / "exported"
        command = [sys.executable, "-m"]
        harness.watch([*command, "crackflow.convert", f"--images={harness.data_folder() / 'metu'}", f"--out={data}"])
        formats = "--formats=savedmodel,tflite,onnx"
        harness.watch([*command, "crackflow.export", f"--data={data}", f"--out={out}", formats])
        parity = json.loads((out / "parity.json").read_text())
    harness.save(options.json, {name: parity[name] for name in ("model", "images", "formats")})


if __name__ == "__main__":
    main()
