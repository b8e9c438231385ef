# shellcheck shell=bash
# Sourced by the scripts beside it: reads --images DIR and --out DIR, also with =, of their arguments into `images` and `out`
# and leaves the rest in `flags`. --help prints the comment at the head of the script.

program="$(basename "$0" .sh)"
flags=()
while [ $# -gt 0 ]; do
  case "$1" in
    --images | --out)
      [ -n "${2:-}" ] || { echo "$program: expected a folder after $1" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --images=* | --out=*)
      name="${1%%=*}"
      [ -n "${1#*=}" ] || { echo "$program: expected a folder after $name" >&2; exit 2; }
      printf -v "${name#--}" %s "${1#*=}"
      shift
      ;;
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) flags+=("$1"); shift ;;
  esac
done
