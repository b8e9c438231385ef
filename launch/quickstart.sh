#!/usr/bin/env bash
# From nothing to a report: environment, images, convert, train, evaluate. With fewer than 400 images of your own, the model
# that comes with crackflow is adapted to them as well, which is what so few are good for.
#   bash launch/quickstart.sh                     synthetic images, by crackflow.synth
#   bash launch/quickstart.sh --images DIR        your own: a folder with one subfolder for each class
#   bash launch/quickstart.sh --images DIR --out DIR
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
few=400
images=""
out="$root/quickstart"
# shellcheck source=launch/arguments.sh
source "$root/launch/arguments.sh"
[ ${#flags[@]} -eq 0 ] || { echo "quickstart: expected --images DIR or --out DIR, received '${flags[0]}'" >&2; exit 2; }

# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
mkdir -p "$out"
adapted=""
if [ -z "$images" ]; then
  images="$out/images"
  python -m crackflow.synth --out="$images" --count=4000 --seed=0 --overwrite
fi
python -m crackflow.convert --images="$images" --out="$out/data" --overwrite
count="$(python -c 'import json, sys; print(sum(split["count"] for split in json.load(open(sys.argv[1]))["splits"].values()))' "$out/data/dataset.json")"
if [ "$count" -lt "$few" ]; then
  echo "quickstart: $count images are few; adapting the model that comes with crackflow first"
  code=0
  python -m crackflow.adapt --images="$images" --out="$out/adapted" --overwrite || code=$?
  # 2: too few of a class. Training then says how little they are worth.
  case "$code" in 0) adapted=1 ;; 2) ;; *) exit "$code" ;; esac
fi
python -m crackflow.train --data="$out/data" --run_dir="$out/run" --overwrite
python -m crackflow.evaluate --model="$out/run" --data="$out/data" --out="$out/test" --overwrite
echo
if [ -n "$adapted" ]; then
  echo "The adapted model:      $out/adapted/model.h5, $out/adapted/report.html"
  echo "Trained from nothing, to compare:"
fi
echo "The report of the run:  $out/run/report.html"
echo "The test in detail:     $out/test/report.html"
