// Package report shows the rows of a run of faults: as a table, as JSON, and as a report in Markdown and in HTML with
// a timeline for each fault, in which the client's attempts stand above one another and beside what the nodes said.
//
// Write makes all files of a report; Table is for a terminal. The figures are those of package score, and none is
// computed here: what is drawn of an outage is where it lay. lanes.go, flags.go and timeline.go say what is drawn and
// are pure; draw.go alone knows how. Nothing has to be closed.
package report
