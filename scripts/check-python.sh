#!/usr/bin/env bash
# What others use of rotnet, as they would: ONNX files in onnxruntime, and the Python package, built as a wheel and installed
# into a fresh environment. Needs python3 and a package registry. Builds on what `cargo build --release` left in target.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release
rm -rf target/python-onnx target/python-package
python3 -m venv target/python-onnx
target/python-onnx/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
target/python-onnx/bin/python scripts/check-onnx.py target/release/rotnet

python3 -m venv target/python-package
target/python-package/bin/pip install -q --disable-pip-version-check .
PATH="$PWD/target/python-package/bin:$PATH" rotnet --version
target/python-package/bin/python -m unittest discover python/tests
