// Package pcapng writes captured frames as a pcapng file, and copies such a file while it is written.
//
// A Writer makes the file: interfaces, frames with their direction, comment and XDP verdict, and how many frames there
// were and were lost. Copy takes over what a Writer makes elsewhere block by block, so that the copy is a whole file
// wherever it ends. The package opens nothing and owns nothing that must be closed; it wraps gopacket's pcapgo.
package pcapng
