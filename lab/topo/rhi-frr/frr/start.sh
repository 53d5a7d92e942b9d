#!/bin/sh
# Starts FRR, in its own container image as well as from the package of the machine that `anycastle lab up` runs on.
set -eu
FRR=${FRR:-/usr/lib/frr}
if [ ! -x "$FRR/watchfrr" ]; then
	echo "no FRR here: $FRR/watchfrr is missing; install Debian's package frr (apt-get install frr)" >&2
	exit 1
fi
# flows are shared by addresses and ports, and a way by a link without carrier is passed over
for f in ip_forward=1 fib_multipath_hash_policy=1 conf/all/ignore_routes_with_linkdown=1 conf/default/ignore_routes_with_linkdown=1; do
	echo "${f#*=}" >"/proc/sys/net/ipv4/${f%=*}" || echo "cannot set ${f%=*}" >&2
done
rm -rf /var/run/frr # of daemons that were killed
mkdir -p /var/run/frr
chown frr:frr /var/run/frr
exec "$FRR/watchfrr" zebra staticd bgpd bfdd
