// Package look asks the roles of a running lab what they know, and says whether the lab is as it should be.
//
// It reads the status sockets of the roles from outside, by way of the nodes' file systems: no process is started in the
// lab, so that looking does not disturb what is measured. What a lab should be like follows from its topology and the
// node files; no node's name is known here. The board of faults and the terminal view call it. Nothing has to be closed.
package look
