#!/usr/bin/env bash
# Tries a graphics card in under ten minutes: lists devices, compares a step of each network with the processor's, runs all
# stages on generated images, measures images/s beside PyTorch on the same card, and trains the paper's recipe for as long as
# is left. Without arguments it takes `vulkan`; `scripts/gpu-check.sh flex` rehearses it on the processor in a minute.
#
#   cargo build --release --features vulkan
#   scripts/gpu-check.sh [DEVICE [NEW-FOLDER]]
#
# ROTNET names the program (default: target/release/rotnet). DATA is a folder of CIFAR-10 for the paper's recipe (default:
# generated images), BUDGET how long it trains (default: 4m). TORCH_STEP is the reference program of benches/compare.py,
# PYTHON an interpreter whose torch knows the card; without TORCH_STEP nothing is measured beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${1:-vulkan}
out=${2:-$(mktemp -d)/gpu-check}
rotnet=$(realpath "${ROTNET:-target/release/rotnet}")
[ ! -e "$out" ] || { echo "$out is there already" >&2; exit 1; }
mkdir -p "$out"
if [ "$device" = flex ]; then
  seconds=0.2 repeats=1 paper=(--set pretrain.steps=2 --set data.train_images=256)
else
  seconds=2 repeats=3 paper=(--budget "${BUDGET:-4m}")
fi
data=(--set data.kind=scenes)
if [ -n "${DATA:-}" ]; then data=(--data "$DATA"); fi

step() { printf '\n== %s (%s s so far)\n' "$1" "$SECONDS"; }

check() {
  step "devices"
  "$rotnet" devices
  if command -v nvidia-smi > /dev/null; then nvidia-smi --query-gpu=name,driver_version --format=csv,noheader; fi
  for recipe in keras-scaled compact rotnet-paper; do
    step "a step of $recipe as on the processor"
    "$rotnet" verify device "$device" --config "$recipe" --set data.kind=scenes --set pretrain.batch_size=32
  done
  step "all stages"
  "$rotnet" run --config keras-scaled --set data.kind=scenes --set data.train_images=1000 --set pretrain.epochs=2 \
      --set finetune.epochs=2 --device "$device" --out "$out/run" --quiet
  places=(flex)
  if [ "$device" != flex ]; then places+=("$device"); fi
  for place in "${places[@]}"; do
    for recipe in keras-scaled compact rotnet-paper; do
      step "images/s of $recipe on $place"
      "$rotnet" bench --config "$recipe" --set pretrain.batch_size=32 --set pretrain.rotations=all \
          --device "$place" --seconds "$seconds" --repeats "$repeats"
    done
  done
  if [ -n "${TORCH_STEP:-}" ]; then
    for network in seed compact nin; do
      step "images/s of $network in PyTorch on the card"
      "${PYTHON:-python3}" benches/torch_card.py "$TORCH_STEP" "$network"
    done
  fi
  step "the paper's recipe"
  "$rotnet" pretrain --config rotnet-paper "${data[@]}" "${paper[@]}" --device "$device" --out "$out/paper" --quiet
  step "done"
}

check 2>&1 | tee "$out/log.txt"
