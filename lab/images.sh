#!/bin/sh
# Builds the lab's images: pause, and kube-proxy with the nft and iptables
# programs of this machine and the libraries that they load.
set -eu
image=$1 bin=$2 version=$3
"$image" --output "$bin/pause.tar" --ref kproxy.lab/pause:lab --entrypoint /pause "$bin/pause=/pause"
"$image" --output "$bin/wrong-arch.tar" --ref kproxy.lab/kube-proxy:wrong-arch --entrypoint /usr/local/bin/kube-proxy "$bin/pause-wrong-arch=/usr/local/bin/kube-proxy"

"$image" --output "$bin/web.tar" --ref kproxy.lab/web:lab --entrypoint /web "$bin/web=/web"
# Without it nft writes a protocol's number where kube-proxy wrote its name, and
# each second restart in mode nftables takes every Service away (a fault does so).
printf 'tcp 6 TCP\nudp 17 UDP\nsctp 132 SCTP\n' >"$bin/protocols"

set -- "$bin/kube=/usr/local/bin/kube-proxy" "$bin/protocols=/etc/protocols"
for f in /usr/sbin/nft /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi; do
	set -- "$@" "$f=$f"
done
matches=$(find /usr/lib -path '*/xtables/*.so')
for f in $(ldd /usr/sbin/nft /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi $matches | grep -o '/[^ ]*' | grep -v ':$' | sort -u) $matches; do
	set -- "$@" "$f=$f"
done
for l in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
	set -- "$@" --link "/usr/sbin/$l=xtables-nft-multi"
done
exec "$image" --output "$bin/kube-proxy.tar" --ref "kproxy.lab/kube-proxy:$version" --entrypoint /usr/local/bin/kube-proxy "$@"
