#!/usr/bin/env bash
# One seed gives the same bytes on ARM: builds the program and its kernel tests for 64-bit ARM Linux, runs both in an
# emulator, and compares with the digests in tests/golden. A quarter of an hour of two cores the first time.
# Usage: scripts/check-arm.sh [TARGET_DIR]
#
# Needs (Debian's names): gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static, and Rust's standard library for
# ARM: `rustup target add aarch64-unknown-linux-gnu`, or Debian's rustc-web cargo-web libstd-rust-web-dev:arm64 with
# /usr/bin first in PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
folder=$(realpath -m "${1:-target/arm}")
step() { printf '\n== %s (%s s so far)\n' "$1" "$SECONDS"; }
arm() {
  CARGO_TARGET_DIR="$folder" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    cargo "$@" --release --locked --target "$target"
}

step "build for ARM"
arm build
step "golden runs with ARM's kernels and in plain code, emulated"
ROTNET_GOLDEN_BINARY="qemu-aarch64-static $folder/$target/release/rotnet" \
  cargo test --release --test integration golden -- --nocapture
step "kernels and functions, emulated"
arm test --lib -- kernels::cpu:: math::functions
step "done"
