#!/usr/bin/env bash
# Gives the unpacked files of Tiny ImageNet (tiny-imagenet-200: 200 classes of 500 images, and 10,000 labelled validation
# images, which become the test set) the folders that rotnet reads, as links in a new folder:
#
#   scripts/tiny-imagenet.sh tiny-imagenet-200 tiny
#   rotnet run --config tiny-imagenet --data tiny
set -euo pipefail

[ $# = 2 ] || { echo "usage: $0 tiny-imagenet-200 NEW-FOLDER" >&2; exit 2; }
from=$(cd "$1" && pwd)
[ -f "$from/val/val_annotations.txt" ] || { echo "$from is no tiny-imagenet-200: no val/val_annotations.txt" >&2; exit 1; }
[ ! -e "$2" ] || { echo "$2 is there already" >&2; exit 1; }
making="$2.making"
rm -rf "$making"
mkdir -p "$making/test"
ln -s "$from/train" "$making/train"
while IFS=$'\t' read -r file class _; do
  mkdir -p "$making/test/$class"
  ln -s "$from/val/images/$file" "$making/test/$class/$file"
done < "$from/val/val_annotations.txt"
# The first of the words for each class.
awk -F '\t' 'BEGIN { print "folder,name" }
  NR == FNR { wanted[$1] = 1; next }
  $1 in wanted { sub(/,.*/, "", $2); print $1 "," $2 }' "$from/wnids.txt" "$from/words.txt" > "$making/classes.csv"
mv "$making" "$2"
