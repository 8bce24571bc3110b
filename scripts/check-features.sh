#!/usr/bin/env bash
# Type-checks every cargo feature that continuous integration does not build; half an hour on two cores the first
# time. Usage: scripts/check-features.sh [FEATURE ...]
set -euo pipefail
cd "$(dirname "$0")/.."

features=("$@")
if [ ${#features[@]} -eq 0 ]; then
  features=(ndarray remote)
fi
for feature in "${features[@]}"; do
  printf '== %s (%s s so far)\n' "$feature" "$SECONDS"
  cargo clippy --release --all-targets --features "$feature" -- -D warnings
done
