package main

import (
	"fmt"
	"strconv"
	"strings"

	"anycastle/lb/agent"
	"anycastle/lb/real"

	"github.com/spf13/cobra"
)

func addHostView(cmd *cobra.Command, e env, f *showFlags) {
	addView(cmd, e, f, view[real.Status]{
		noun: "host", short: "What a real takes in and drops, and what its agent tells balancers", roles: []string{"real"},
		head: []string{"VIPS", "OWN ADDRESSES", "UPLINKS", "DECAPSULATED", "BYTES", "PASSED ON", "DROPS", "AGENT", "LOAD",
			"PORT", "LISTENING", "FLOWS", "REFUSED", "RESETS", "OVERFLOWS"},
		rows: hostRows,
	})
}

// hostRows gives a row for the host, and in it and below it the ports of its VIPs.
func hostRows(s real.Status) [][]string {
	var uplinks []string
	for _, u := range s.Uplinks {
		uplinks = append(uplinks, fmt.Sprintf("%s (%s)", u.Name, strings.TrimSuffix(fmt.Sprintf("%s: %s", u.Mode, u.Why), ": ")))
	}
	host := []string{
		words(s.VIPs), words(s.Addresses), words(uplinks), strconv.FormatUint(s.Decapsulated, 10), strconv.FormatUint(s.Bytes, 10),
		strconv.FormatUint(s.PassedOn, 10), drops(s.Drops), "-", "-",
	}
	var ports []agent.Port
	if a := s.Agent; a != nil {
		host[7] = fmt.Sprintf("%s, read by %d", a.State, a.Readers)
		host[8] = strconv.FormatFloat(a.Load, 'f', 2, 64)
		ports = a.VIPs
	}
	if len(ports) == 0 {
		return [][]string{append(host, "-", "-", "-", "-", "-", "-")}
	}
	var rows [][]string
	for _, p := range ports {
		rows = append(rows, append(host[:len(host):len(host)], p.Key().String(), yes(p.Listening), strconv.Itoa(p.Flows),
			strconv.FormatUint(p.Refused, 10), strconv.FormatUint(p.Resets, 10), strconv.FormatUint(p.Overflows, 10)))
		host = make([]string, len(host)) // said once
	}
	return rows
}

// drops names the reasons that any packet was dropped for.
func drops(list []real.DropStatus) string {
	var some []string
	for _, d := range list {
		if d.Packets > 0 {
			some = append(some, fmt.Sprintf("%s %d", d.Reason, d.Packets))
		}
	}
	return words(some)
}
