#!/usr/bin/env bash
# Makes one virtual environment for each family of peers, with pinned versions; what is made already is left alone.
#   bash benchmarks/peers/environments.sh             all of them
#   bash benchmarks/peers/environments.sh torch dali  these
# They lie in $PEERS_HOME (default ~/.cache/crackflow-peers). Needs Python 3.11 with venv and pip; PYTHON=... names one.
# ffcv is compiled on the spot and needs g++, pkg-config, libopencv-dev and libturbojpeg0-dev.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
home="${PEERS_HOME:-$HOME/.cache/crackflow-peers}"

requirements() {
  case "$1" in
    keras) echo tensorflow==2.21.0 tf-keras==2.21.0 numpy==2.4.6 ;;
    torch) echo torch==2.13.0 webdataset==1.0.2 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6 ;;
    dali) echo nvidia-dali-cuda120==2.4.0 numpy==2.4.6 ;;
    grain) echo grain==0.2.18 array-record==0.8.6 opencv-python-headless==5.0.0.93 numpy==2.4.6 ;;
    tfds) echo tensorflow==2.21.0 tensorflow-datasets==4.9.10 importlib_resources==7.1.0 numpy==2.4.6 ;;
    ffcv) echo ffcv==1.0.2 torch==2.13.0 numba==0.68.1 opencv-python==5.0.0.93 pillow==13.0.0 numpy==2.4.6 ;;
    limits) echo simplejpeg==1.9.0 pillow==13.0.0 numpy==2.4.6 ;;
    *) echo "peers: expected keras, torch, dali, grain, tfds, ffcv or limits, received '$1'" >&2; exit 2 ;;
  esac
}

missing_to_build_ffcv() {
  command -v g++ >/dev/null || echo "g++"
  command -v pkg-config >/dev/null || { echo "pkg-config"; return; }
  pkg-config --exists opencv4 || echo "libopencv-dev"
  pkg-config --exists libturbojpeg || echo "libturbojpeg0-dev"
}

make_environment() {
  local name="$1" venv="$home/$1" wanted stamp missing
  wanted="$(requirements "$name")"
  stamp="$venv/.made-$(echo "$wanted" | cksum | tr ' ' '-')"
  if [ -e "$stamp" ]; then
    return
  fi
  if [ "$name" = ffcv ]; then
    missing="$(missing_to_build_ffcv | tr '\n' ' ')"
    if [ -n "$missing" ]; then
      echo "peers: skipping ffcv, its build needs: $missing" >&2
      return
    fi
  fi
  echo "peers: making $venv"
  "${PYTHON:-python3}" -m venv --clear "$venv"
  local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
  "${pip[@]}" --upgrade "setuptools<81" wheel
  case "$wanted $(command -v nvidia-smi)" in  # the wheel without CUDA is a tenth of the size; not every registry has it
    *nvidia-smi) ;;
    *torch==*) "${pip[@]}" "torch==2.13.0+cpu" 2>/dev/null || "${pip[@]}" "torch==2.13.0" ;;
  esac
  # shellcheck disable=SC2086
  "${pip[@]}" $wanted
  touch "$stamp"
}

for name in ${*:-keras torch dali grain tfds ffcv limits}; do
  make_environment "$name"
done
