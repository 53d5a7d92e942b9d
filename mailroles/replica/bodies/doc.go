// Package bodies keeps the bodies of a LUN's messages the same at all its mail replicas, and tells them how far each is.
//
// A Sender pushes what is being delivered here to all others at once, and knows who has it on disk. A Receiver takes
// what others push, and gives what they ask for. A Fetcher asks for what is missing here. An Exchange tells all others
// how far this replica is, and knows it of them. A Desk answers questions; Caller asks them: for the manifest that a blank
// replica starts from, for digests, and for what else its owner has named.
//
// All talk over the connections of a wire.Group. None is in the way of another: each peer has its own goroutines, its own
// bounded queue and its own deadlines; a peer that is slow or gone is skipped, and fetches later. The owner runs each Run
// until its context ends; nothing else has to be closed.
package bodies
