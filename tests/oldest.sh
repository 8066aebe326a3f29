#!/usr/bin/env bash
# Run the fast tests, or those given as arguments, with the oldest versions that pyproject.toml allows.
#
# They are installed in a folder that is removed afterwards. torch stays the one of requirements.lock: of older ones, the
# package index has only those for CUDA, of several gigabytes. The box2d extra is left out: its oldest needs a compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet)
torch=$(grep '^torch==' requirements.lock)
echo "$torch" > "$folder/torch.txt"
"${pip[@]}" uv
"${pip[@]}" --no-deps "$torch"
"$folder/bin/uv" pip compile --quiet --python "$folder/bin/python" --resolution lowest-direct \
  --override "$folder/torch.txt" --no-annotate --no-header --extra all --extra dev pyproject.toml |
  grep -vE '^(nvidia|cuda|triton|torch==|box2d|swig)' > "$folder/oldest.txt"
"${pip[@]}" --no-deps -r "$folder/oldest.txt"
"${pip[@]}" --no-deps --no-build-isolation -e .  # the command
# newer parts warn of what the older ones call: here they may
PYTHONPATH=$PWD "$folder/bin/python" -m pytest -o filterwarnings=ignore "$@"
