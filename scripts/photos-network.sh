#!/usr/bin/env bash
# Makes the network for photographs anew, from the unpacked files of Tiny ImageNet (see scripts/tiny-imagenet.sh), in a new
# folder; about two hours on two cores. models/photos/README.md says what came of it.
#
#   scripts/photos-network.sh tiny-imagenet-200 NEW-FOLDER
set -euo pipefail

[ $# = 2 ] || { echo "usage: $0 tiny-imagenet-200 NEW-FOLDER" >&2; exit 2; }
[ ! -e "$2" ] || { echo "$2 is there already" >&2; exit 1; }
mkdir -p "$2"
"$(dirname "$0")/tiny-imagenet.sh" "$1" "$2/tiny"
rotnet=${ROTNET:-rotnet}
"$rotnet" pretrain --config photos --data "$2/tiny" --set pretrain.epochs=18 --set data.validation_images=2000 --out "$2/run"
"$rotnet" export "$2/run" --what checkpoint --out "$2/network"
cp "$2/run/pretrain/summary.json" "$2/run/pretrain/metrics.jsonl" "$2/network/"
sha256sum "$2/network/checkpoint.safetensors"
