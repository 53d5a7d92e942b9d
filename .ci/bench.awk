# Turns the output of `go test -bench` into a list of rows. A figure given as "N x/PEER" becomes the peer and the ratio
# to it.
/^Benchmark/ {
	row = sprintf("{\"case\": \"%s\", \"iterations\": %s, \"ns_per_op\": %s", $1, $2, $3)
	if ($6 ~ /^x\//)
		row = row sprintf(", \"peer\": \"%s\", \"ratio\": %s", substr($6, 3), $5)
	list = list (list ? ",\n  " : "") row "}"
}
END { print "[\n  " list "\n]" }
