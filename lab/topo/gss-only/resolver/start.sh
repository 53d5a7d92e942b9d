#!/bin/sh
# Sets up the node's network and runs unbound: that of the image, or of the machine that `anycastle lab up` runs on.
set -eu
if ! command -v unbound >/dev/null; then
	echo "no unbound here; install Debian's package unbound (apt-get install unbound)" >&2
	exit 1
fi
anycastle node /etc/anycastle/node.yml &
# it cannot listen on an address that is not there yet
until grep -q '198\.51\.100\.3$' /proc/net/fib_trie; do sleep 0.05; done
exec unbound -d -c /etc/anycastle/unbound.conf
