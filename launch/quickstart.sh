#!/usr/bin/env bash
# From nothing to a report: environment, images, convert, train, evaluate.
#   bash launch/quickstart.sh                     images made by crackflow.synth
#   bash launch/quickstart.sh --images DIR        your own: a folder with one subfolder for each class
#   bash launch/quickstart.sh --images DIR --out DIR
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
images=""
out="$root/quickstart"
while [ $# -gt 0 ]; do
  case "$1" in
    --images | --out)
      [ $# -ge 2 ] || { echo "quickstart: expected a folder after $1" >&2; exit 2; }
      if [ "$1" = --images ]; then images="$2"; else out="$2"; fi
      shift 2
      ;;
    --images=*) images="${1#*=}"; shift ;;
    --out=*) out="${1#*=}"; shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "quickstart: expected --images DIR or --out DIR, received '$1'" >&2; exit 2 ;;
  esac
done

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
