// Package score turns what the lab's client saw into the rows of the scoreboard, and says which promises they keep.
//
// A Window is the time of one fault, or of the way back from it; a Row is what the client saw in it. Rows is pure: it
// reads the client's events and nothing else, so that every figure of a report can be computed again from the
// client's log. Package board makes the windows, package report shows the rows. Nothing has to be closed.
package score
