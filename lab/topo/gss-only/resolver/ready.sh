#!/bin/sh
# Waits until unbound listens; fails with the mend when there is none.
set -eu
if ! command -v unbound >/dev/null; then
	echo "no unbound here; install Debian's package unbound (apt-get install unbound)" >&2
	exit 1
fi
i=0
until grep -q ':0035 ' /proc/net/udp; do # port 53
	i=$((i + 1))
	if [ $i -gt 300 ]; then
		echo "unbound does not listen after 30 s; see the node's log" >&2
		exit 1
	fi
	sleep 0.1
done
