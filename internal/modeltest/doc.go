// Package modeltest is a model in Go of what the XDP programs do to a frame, and a source of random frames to try both on.
//
// The model is written from the description of the data path and from the RFCs alone, and shares no line with the
// programs: where the two differ, one of them is wrong. It takes no heed of speed. LB stands for the program lb and
// Host for the program real; Run of each says what becomes of one frame and changes the state as the program would.
//
// A World is a random but repeatable content of the maps; a Source gives frames that fit it: good ones, cut ones and
// mangled ones. The tests of package bpf write a world into the real maps and compare.
package modeltest
