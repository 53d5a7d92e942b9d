// Package scenario reads the faults that a lab goes through, and does to a lab what they say.
//
// A scenario is a text file: one statement a line, its first word a verb; what is indented belongs to the section above;
// lines that begin with # are comments.
//
//	title    real killed
//	topology two-site
//	demo     yes
//
//	fault
//	  promise   vip 1s, name 1s, lost 0
//	  kill      east-mx1
//	  watch     4s
//	  took-over banners
//	  expect    ^mx2\.east
//
//	back
//	  promise   vip 0, failed 0, lost 0
//	  start     east-mx1
//	  settle
//	  watch     2s
//
// `before` may come first, for what makes ready and is nobody's row. Reading is strict: what is unknown, missing or given
// twice is a Problem with file and line. Do carries out the statements that change the lab; those that wait and measure
// (watch, wait, settle, took-over, expect, promise) are for package board. Nothing has to be closed.
package scenario
