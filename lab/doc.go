// Package lab is the room of the laboratory: whole sites on one machine, and the faults.
//
// The code is in its folders (topology, runner, topo, client, demo, keys); here are the scenarios that run the built
// binary as a user does. See README.md.
package lab
