// Package topology reads the part of a containerlab topology file (NAME.clab.yml) that the lab can build from the
// kernel alone.
//
// The same file runs under containerlab, so every key that is read here means what it means there: defaults and kinds
// are laid under a node in the same order, lists are merged without duplicates, commands are cut into the same words, a
// link without an mtu has 9500 bytes. An image and labels may be given and are not read.
// Whatever the lab would not honour is refused with file:line and the mend, because a topology that is silently
// built in part proves nothing. Not read: groups, stages, management networks, and links other than plain pairs.
//
// The package does no more than read: lab/runner builds what it returns. Nothing has to be closed.
package topology
