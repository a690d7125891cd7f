#!/bin/bash
# Builds what a release has, for linux/amd64 and linux/arm64, into a directory: an
# archive of the program, an image, what is in them (SBOM), the chart, and checksums
# of all. The same commit gives the same bytes, wherever it is built.
#
# release.sh VERSION REVISION DIR
set -eu -o pipefail
cd "$(dirname "$0")/.."
version=$1 revision=$2 dir=$3
common=github.com/prometheus/common/version
export CGO_ENABLED=0 GOOS=linux GOFLAGS=-buildvcs=false TZ=UTC

archive() { # DIRECTORY NAME FILE: a tar of its content, without owners and times
	tar -C "$1" --dereference --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' -c "$2" | gzip -9n >"$3"
}

rm -rf "$dir"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in amd64 arm64; do
	name=kproxy-exporter-$version.linux-$arch
	mkdir -p "$work/$name"
	GOARCH=$arch go build -trimpath -ldflags "-s -w -buildid= -X $common.Version=$version -X $common.Revision=$revision" -o "$work/$name/kproxy-exporter" ./cmd/kproxy-exporter
	cp LICENSE README.md "$work/$name/"
	archive "$work" "$name" "$dir/$name.tar.gz"
	tools/bin/image --output "$dir/$name.image.tar" --ref "kproxy.lab/kproxy-exporter:$version" --arch $arch --user 65532:65532 --entrypoint /kproxy-exporter "$work/$name/kproxy-exporter=/kproxy-exporter"
	tools/bin/cyclonedx-gomod bin -json -noserial -notimestamp -std -version "$version" -output "$dir/$name.sbom.json" "$work/$name/kproxy-exporter"
done
mkdir -p "$work/chart"
cp -rL deploy/kproxy-exporter "$work/chart/"
# A chart's version is a semantic one.
semver=$(echo "$version" | sed -n 's/^v\{0,1\}\([0-9]*\.[0-9]*\.[0-9]*.*\)$/\1/p')
sed -i -e "s/^version: .*/version: ${semver:-0.0.0-$version}/" -e "s/^appVersion: .*/appVersion: \"$version\"/" "$work/chart/kproxy-exporter/Chart.yaml"
archive "$work/chart" kproxy-exporter "$dir/kproxy-exporter-chart-$version.tgz"
cd "$dir"
sha256sum -- *.tar.gz *.tar *.json *.tgz >sha256sums.txt
