#!/usr/bin/env bash
# The test suite on the TensorFlow that comes next, in an environment of its own.
#   bash launch/test_next.sh                    the newest release candidate from 2.22 on, with the tf-keras of that version
#   bash launch/test_next.sh --nightly          tf-nightly and tf-keras-nightly
#   bash launch/test_next.sh --nightly tests/core -x      all other arguments go to pytest
# The environment is .venv-next in the checkout, or CRACKFLOW_NEXT_VENV. It is made again when setup.py,
# launch/constraints.txt, the kind or this script change; remove it to get newer packages. PYTHON=... chooses the interpreter.
set -euo pipefail

kind="candidate"
case "${1:-}" in
  --nightly) kind="nightly"; shift ;;
  -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${CRACKFLOW_NEXT_VENV:-$root/.venv-next}"
stamp="$venv/.crackflow-next-$kind-$(cat "$root/setup.py" "$root/launch/constraints.txt" "${BASH_SOURCE[0]}" | cksum | tr ' ' '-')"

install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

# The requirements of setup.py, `dev` included, into others.txt, without those that are installed by themselves; and
# into constraints.txt what TensorFlow brought, then launch/constraints.txt for all other packages.
write_requirements() {
  "$venv/bin/python" - "$root" "$venv" << 'PYTHON'
import importlib.metadata
import pathlib
import runpy
import sys

import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

root, venv = map(pathlib.Path, sys.argv[1:])
asked = {}
setuptools.setup = lambda **options: asked.update(options)
runpy.run_path(str(root / "setup.py"))
apart = {"tensorflow", "tf-keras", "tensorflow-addons", "keras-tuner"}
lines = [*asked["install_requires"], *asked["extras_require"]["dev"]]
others = [line for line in lines if canonicalize_name(Requirement(line).name) not in apart]
(venv / "others.txt").write_text("\n".join(others) + "\n")

installed = {canonicalize_name(package.metadata["Name"]): package.version for package in importlib.metadata.distributions()}
pinned = [line.strip() for line in (root / "launch" / "constraints.txt").read_text().splitlines()]
pinned = [line for line in pinned if line and not line.startswith("#")]
pinned = [line for line in pinned if canonicalize_name(Requirement(line).name) not in {*installed, *apart, "keras"}]
lines = [*(f"{name}=={version}" for name, version in installed.items()), *pinned]
(venv / "constraints.txt").write_text("\n".join(lines) + "\n")
PYTHON
}

# tf-keras asks for the TensorFlow that is released and keras-tuner for the Keras that is: pip would lay these over the
# newer ones. So both come without what they ask for, which is there.
install_keras() {
  local minor name names=(tf-keras-nightly)
  install --no-deps --constraint "$root/launch/constraints.txt" keras-tuner kt-legacy
  if [ "$kind" = candidate ]; then
    minor="$("$venv/bin/python" -c 'from importlib import metadata; print(".".join(metadata.version("tensorflow").split(".")[:2]))')"
    # A tf-keras of the same version, if there is one; else its nightly; else the newest that was released.
    names=("tf-keras==$minor.*" "tf-keras-nightly==$minor.*" tf-keras)
  fi
  for name in "${names[@]}"; do
    if install --no-deps "$name" 2> /dev/null; then return; fi
  done
  echo "test_next: expected one of ${names[*]} in the package index, found none" >&2
  exit 2
}

if [ ! -e "$stamp" ]; then
  if [ -n "$(ls -A "$venv" 2> /dev/null)" ] && ! compgen -G "$venv/.crackflow-next-*" > /dev/null; then
    echo "test_next: expected CRACKFLOW_NEXT_VENV to be a new folder, received $venv, which this script did not make" >&2
    exit 2
  fi
  python="${PYTHON:-python3}"
  if ! "$python" -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' > /dev/null 2>&1; then
    echo "test_next: expected Python 3.10 to 3.13 with venv, received $python; name one: PYTHON=/path/to/python3.11" >&2
    exit 2
  fi
  echo "test_next: making the environment in $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
  touch "$venv/.crackflow-next-begun" # ours, if the installation is broken off
  # Not with --pre, which would bring pre-releases of all that TensorFlow needs: a pre-release in the requirement allows
  # those of this one package, and of tf-nightly there is nothing else.
  if [ "$kind" = nightly ]; then install tf-nightly; else install "tensorflow>=2.22.0rc0"; fi
  install setuptools packaging
  write_requirements
  install --constraint "$venv/constraints.txt" --requirement "$venv/others.txt"
  install_keras
  install --no-deps --no-build-isolation --editable "$root"
  touch "$stamp"
fi

export PATH="$venv/bin:$PATH"
cd "$root"
python -m pip list --disable-pip-version-check --format=freeze | grep -iE '^(tensorflow|(tf[-_])?keras|tf)([-_](nightly|tuner))?='
python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --no-loadscope-reorder "$@"
