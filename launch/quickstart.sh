#!/usr/bin/env bash
# From nothing to a report: environment, images, convert, train, evaluate.
#   bash launch/quickstart.sh                     images made by crackflow.synth
#   bash launch/quickstart.sh --images DIR        your own: a folder with one subfolder for each class
#   bash launch/quickstart.sh --images DIR --out DIR
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
images=""
out="$root/quickstart"
# shellcheck source=launch/arguments.sh
source "$root/launch/arguments.sh"
[ ${#flags[@]} -eq 0 ] || { echo "quickstart: expected --images DIR or --out DIR, received '${flags[0]}'" >&2; exit 2; }

# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
mkdir -p "$out"
if [ -z "$images" ]; then
  images="$out/images"
  python -m crackflow.synth --out="$images" --count=4000 --seed=0 --overwrite
fi
python -m crackflow.convert --images="$images" --out="$out/data" --overwrite
python -m crackflow.train --data="$out/data" --run_dir="$out/run" --overwrite
python -m crackflow.evaluate --model="$out/run" --data="$out/data" --out="$out/test" --overwrite
echo
echo "The report of the run:  $out/run/report.html"
echo "The test in detail:     $out/test/report.html"
