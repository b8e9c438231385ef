#!/usr/bin/env bash
# Environment, lint, types and tests: the one command, on a laptop and in CI.
#   bash launch/test.sh                 everything
#   bash launch/test.sh --fast          without the tests marked slow
#   bash launch/test.sh tests/core -x   other arguments go to pytest
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
cd "$root"
lane=()
if [ "${1:-}" = --fast ]; then
  lane=(-m "not slow")
  shift
fi
ruff format --check .
ruff check .
mypy
python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --no-loadscope-reorder --durations=10 "${lane[@]}" "$@"
