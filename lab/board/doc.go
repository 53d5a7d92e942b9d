// Package board is the board of faults: it puts labs through scenarios under client load and says what the client saw.
//
// Run builds a lab of each topology that the scenarios name, sends mail and reads it back, puts a client under way, and goes
// through the scenarios: the fault, and the way back from it, each a row. Between them the lab must be as it was at first.
// Every figure comes from the client's own log; package score computes them and is pure, package report shows them. A lab
// that a fault leaves in ruins is built anew for the next. Run removes its labs when it ends, whatever the reason, and
// leaves the logs in a folder that it names.
package board
