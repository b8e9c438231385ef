#!/usr/bin/env bash
# Environment, lint, the whole test suite: the one command, on a laptop and in CI. Arguments go to pytest.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/environment.sh
source "$root/launch/environment.sh"
cd "$root"
ruff format --check .
ruff check .
python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --no-loadscope-reorder "$@"
