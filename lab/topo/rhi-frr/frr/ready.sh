#!/bin/sh
# Waits until FRR has read its config; fails with the mend when there is no FRR.
set -eu
FRR=${FRR:-/usr/lib/frr}
if [ ! -x "$FRR/watchfrr" ]; then
	echo "no FRR here: $FRR/watchfrr is missing; install Debian's package frr (apt-get install frr)" >&2
	exit 1
fi
i=0
until vtysh -c 'show running-config' 2>/dev/null | grep -q '^router bgp'; do
	i=$((i + 1))
	if [ $i -gt 300 ]; then
		echo "FRR has not read its config within 30 s; see what it says: vtysh -b" >&2
		exit 1
	fi
	sleep 0.1
done
