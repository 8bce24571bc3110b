#!/usr/bin/env bash
# Makes docs/report.png anew: the quickstart, `rotnet report` of it, and the top of that page as it
# looks 1,000 pixels wide, in the light theme.
# Usage: scripts/report-picture.sh [FILE]; ROTNET names the program (default: target/release/rotnet), BROWSER the browser.
#
# Needs chromium or Google Chrome (Debian: chromium fonts-dejavu-core), and pngquant if the picture is to be a third of
# the size.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:-docs/report.png}")
rotnet=$(realpath "${ROTNET:-target/release/rotnet}")
browser=
for name in "${BROWSER:-}" chromium chromium-browser google-chrome google-chrome-stable; do
  if [ -n "$name" ] && command -v "$name" > /dev/null; then browser=$name && break; fi
done
if [ -z "$browser" ]; then
  echo "no browser: install chromium, or name one that takes Chrome's options with BROWSER" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$rotnet" run --config quickstart --out quickstart --quiet
"$rotnet" report quickstart --quiet

options=(--headless --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" --window-size=1000,700)
# Chrome's sandbox refuses the superuser, as in a container. The page has no scripts and loads nothing.
if [ "$(id -u)" = 0 ]; then options+=(--no-sandbox); fi
"$browser" "${options[@]}" --force-device-scale-factor=1.5 --screenshot="$work/report.png" \
  "file://$work/quickstart/report.html" 2> "$work/browser.log" || { cat "$work/browser.log" >&2; exit 1; }
[ -s report.png ] || { cat browser.log >&2; exit 1; }
if command -v pngquant > /dev/null; then pngquant --force --output report.png 128 report.png; fi
cp report.png "$out"
echo "$out: $(stat -c %s "$out") bytes"
