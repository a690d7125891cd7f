#!/bin/sh
# Puts Debian's prometheus and promtool into the directory $1. The package is
# unpacked, not installed: an installation would start a server.
set -eu
mkdir -p "$1"
dir=$(cd "$1" && pwd)
[ -x "$dir/promtool" ] && [ -x "$dir/prometheus" ] && exit 0
command -v apt-get >/dev/null || { echo "promtool is missing and there is no apt-get to get it with" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
cd "$tmp"
apt-get download -q prometheus >log 2>&1 || { apt-get update -q >log 2>&1 && apt-get download -q prometheus >log 2>&1; } || { cat log >&2; exit 1; }
dpkg -x prometheus_*.deb root
cp root/usr/bin/prometheus root/usr/bin/promtool "$dir/"
