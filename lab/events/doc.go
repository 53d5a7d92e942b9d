// Package events reads what the nodes of a lab logged, and tells the few lines that say that something changed from
// the many that do not.
//
// Read takes the folder that a demo keeps its logs in: NODE.log for each node, in which every role of the node writes
// lines of log/slog. Which message means what stands in one table, rules.go. What is no such line, because a process
// was killed in the midst of it or another program wrote it, is counted and passed over; nothing in a log is an error,
// and no log is too long. Package report shows the events beside what the client saw. Nothing has to be closed.
package events
