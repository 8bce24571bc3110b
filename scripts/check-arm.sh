#!/usr/bin/env bash
# One seed gives the same bytes on ARM: builds kernels and program for 64-bit ARM Linux, runs them in an emulator, and
# compares with the digests in tests/golden. The kernels take a minute, the program a quarter of an hour of two cores the
# first time. Usage: scripts/check-arm.sh [kernels | program]; both without an argument.
#
# Needs (Debian's names): gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static, and Rust's standard library for
# ARM: `rustup target add aarch64-unknown-linux-gnu`, or Debian's rustc-web cargo-web libstd-rust-web-dev:arm64 with
# /usr/bin first in PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
folder=${ROTNET_ARM_TARGET:-$PWD/target/arm}
step() { printf '\n== %s (%s s so far)\n' "$1" "$SECONDS"; }
arm() {
  CARGO_TARGET_DIR="$folder" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    cargo "$@"
}

if [ "${1:-kernels}" = kernels ]; then
  step "kernels and functions, emulated"
  # The versions of the program; cargo leaves out what the kernels do not need.
  cp Cargo.lock scripts/kernels/Cargo.lock
  arm test --release --target "$target" --manifest-path scripts/kernels/Cargo.toml
fi
if [ "${1:-program}" = program ]; then
  step "the program for ARM"
  arm build --release --locked --target "$target"
  step "golden runs with NEON and in plain code, emulated"
  ROTNET_GOLDEN_BINARY="qemu-aarch64-static $folder/$target/release/rotnet" \
    cargo test --release --test integration golden -- --nocapture
fi
step "done"
