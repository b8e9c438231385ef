# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv in the checkout, with pinned versions, and puts it on the PATH.
# Needs Python 3.10 to 3.13 with venv and pip. PYTHON=... chooses one; CRACKFLOW_VENV=... another place.

find_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
    [ -n "$name" ] || continue
    if "$name" -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "crackflow: expected Python 3.10 to 3.13 with venv; install one, or name it: PYTHON=/path/to/python3.11" >&2
  return 2
}

make_environment() {
  local root python venv stamp
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  venv="${CRACKFLOW_VENV:-$root/.venv}"
  stamp="$venv/.crackflow-$(cat "$root/setup.py" "$root/launch/constraints.txt" | cksum | tr ' ' '-')"
  if [ ! -e "$stamp" ]; then
    if [ -n "${CRACKFLOW_VENV:-}" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ] && ! compgen -G "$venv/.crackflow-*" >/dev/null; then
      echo "crackflow: expected CRACKFLOW_VENV to be a new folder, received $venv, which crackflow did not make" >&2
      exit 2
    fi
    python="$(find_python)" || exit 2
    echo "crackflow: making the environment in $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
    touch "$venv/.crackflow-begun" # ours, if the installation is broken off
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --constraint "$root/launch/constraints.txt" --editable "${root}[dev]"
    touch "$stamp"
  fi
  export PATH="$venv/bin:$PATH"
}

make_environment
