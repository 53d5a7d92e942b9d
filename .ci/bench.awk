# Turns the output of `go test -bench` into a list of rows. One whose name ends in "/peer=PEER" is of that peer, for the
# case before. A figure given as "N x/CASE" is the row's ratio to that case, which is the row's peer if it has no other.
# What a name has of resolver=, serve_stale= and setting= between its slashes becomes keys of their own.
# Any other figure is a key of its own, named as its unit. The case's own key is "case", or what key says.
/^Benchmark/ && $2 ~ /^[0-9]+$/ { # not the line of one that failed
	name = $1
	sub(/-[0-9]+$/, "", name) # the number of CPUs
	if (short)
		sub(/^Benchmark[^\/]*\//, "", name)
	peer = ""
	if (match(name, /\/peer=[^\/]*$/)) {
		peer = substr(name, RSTART + 6)
		name = substr(name, 1, RSTART - 1)
	}
	columns = ""
	for (i = split("resolver serve_stale setting", column, " "); i > 0; i--)
		if (match(name, "/" column[i] "=[^/]*")) {
			from = RSTART + length(column[i]) + 2
			columns = sprintf(", \"%s\": \"%s\"", column[i], substr(name, from, RSTART + RLENGTH - from)) columns
			name = substr(name, 1, RSTART - 1) substr(name, RSTART + RLENGTH)
		}
	row = sprintf("{\"%s\": \"%s\", \"iterations\": %s", key ? key : "case", name, $2)
	if (peer)
		row = row sprintf(", \"peer\": \"%s\"", peer)
	row = row columns
	for (i = 3; i < NF; i += 2) {
		unit = $(i + 1)
		if (unit ~ /^x\//)
			row = row (peer ? "" : sprintf(", \"peer\": \"%s\"", substr(unit, 3))) sprintf(", \"ratio\": %s", $i)
		else
			row = row sprintf(", \"%s\": %s", unit == "ns/op" ? "ns_per_op" : unit, $i)
	}
	list = list (list ? ",\n  " : "") row "}"
}
END { print "[\n  " list "\n]" }
