# Turns the output of `go test -bench` into a list of rows. A figure given as "N x/PEER" becomes the peer and the ratio
# to it; any other is a key of its own, named as its unit.
/^Benchmark/ && $2 ~ /^[0-9]+$/ { # not the line of one that failed
	name = $1
	sub(/-[0-9]+$/, "", name) # the number of CPUs
	if (short)
		sub(/^Benchmark[^\/]*\//, "", name)
	row = sprintf("{\"case\": \"%s\", \"iterations\": %s", name, $2)
	for (i = 3; i < NF; i += 2) {
		unit = $(i + 1)
		if (unit ~ /^x\//)
			row = row sprintf(", \"peer\": \"%s\", \"ratio\": %s", substr(unit, 3), $i)
		else
			row = row sprintf(", \"%s\": %s", unit == "ns/op" ? "ns_per_op" : unit, $i)
	}
	list = list (list ? ",\n  " : "") row "}"
}
END { print "[\n  " list "\n]" }
