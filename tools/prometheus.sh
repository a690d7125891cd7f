#!/bin/sh
# Puts Debian's prometheus, promtool and alertmanager into the directory $1. The
# packages are unpacked, not installed: an installation would start servers.
set -eu
mkdir -p "$1"
dir=$(cd "$1" && pwd)
[ -x "$dir/promtool" ] && [ -x "$dir/prometheus" ] && [ -e "$dir/default.tmpl" ] && exit 0
command -v apt-get >/dev/null || { echo "prometheus is missing and there is no apt-get to get it with" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
cd "$tmp"
get() { apt-get download -q prometheus prometheus-alertmanager; }
get >log 2>&1 || { apt-get update -q >log 2>&1 && get >log 2>&1; } || { cat log >&2; exit 1; }
for deb in *.deb; do dpkg -x "$deb" root; done
cp root/usr/bin/prometheus root/usr/bin/promtool "$dir/"
cp root/usr/bin/prometheus-alertmanager "$dir/alertmanager"
cp root/usr/share/prometheus/alertmanager/*.tmpl "$dir/"
