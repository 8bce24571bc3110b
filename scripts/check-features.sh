#!/usr/bin/env bash
# Type-checks and lints every cargo feature but `remote` and `mpi`, which continuous integration builds. Needs no driver and no SDK;
# an hour on two cores the first time. Usage: scripts/check-features.sh [FEATURE ...]
set -euo pipefail
cd "$(dirname "$0")/.."

features=("$@")
if [ ${#features[@]} -eq 0 ]; then
  features=(ndarray wgpu vulkan metal cuda rocm)
fi
# Crates of `cuda` and `rocm` fetch a compiled LLVM, which only linking needs, unless they believe to be documented.
export DOCS_RS=1
for feature in "${features[@]}"; do
  printf '== %s (%s s so far)\n' "$feature" "$SECONDS"
  cargo clippy --release --all-targets --features "$feature" -- -D warnings
done
