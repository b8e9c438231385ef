#!/usr/bin/env bash
# The model that comes with crackflow, from METU's photographs alone: convert, make varied surfaces, join, train.
#   bash launch/shipped.sh --images METU --out DIR              METU: the folder with Positive/ and Negative/
#   bash launch/shipped.sh --images METU --out DIR --seed=1     further flags go to crackflow.train
# An hour and a half on 2 cores. Leaves DIR/run/model.h5.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
images=""
out=""
# shellcheck source=launch/arguments.sh
source "$root/launch/arguments.sh"
[ -n "$images" ] && [ -n "$out" ] || { echo "shipped: expected --images DIR and --out DIR" >&2; exit 2; }

# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
mkdir -p "$out"
# At full size for the donors of grounds and cracks; at the network's size, with the same splits, to train on.
python -m crackflow.convert --images="$images" --out="$out/metu" --overwrite
python -m crackflow.convert --images="$images" --out="$out/metu_128" --image_px=128 --overwrite
python -m crackflow.synth --out="$out/made_photos" --surfaces=varied --donors="$out/metu" --image_px=128 \
  --count=48000 --seed=11 --overwrite
python -m crackflow.convert --images="$out/made_photos" --out="$out/made" --split=0.95,0.05,0 --overwrite
python -m crackflow.convert --join="$out/metu_128,$out/made" --repeat=4,1 --out="$out/both" --overwrite
python -m crackflow.train --flagfile="$root/launch/flags/shipped.cfg" --data="$out/both" --run_dir="$out/run" ${flags[@]+"${flags[@]}"}
# The threshold of photographs, on METU's validation split at full size: pictures of 128 pixels are no photographs.
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" python -m benchmarks.photo_calibration \
  --model="$out/run/model.h5" --data="$out/metu"
