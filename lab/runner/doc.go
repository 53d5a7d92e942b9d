// Package runner builds a lab from a topology with nothing but the kernel and root: no container engine, no images.
//
// A node is one small init process in network, mount, PID, UTS and IPC namespaces of its own. Nothing of a lab is
// named in the host: namespaces have no files under /run/netns, veth pairs are made between two nodes directly, and
// the BPF file system with its pins is the node's. When init is killed the kernel takes everything away with it, so
// a lab leaves nothing behind however it ends. What is left on disk is the lab's state folder, which Down removes.
//
// Init is the anycastle binary itself, run as `anycastle lab init`; InitMain is the body of that hidden command. While
// Up is building, every init holds a leash to it and ends when the other end closes, so that even kill -9 leaves
// no process.
//
// The command `anycastle lab` and the demo call this package. It knows no role: what runs in a node is the business
// of the topology. It has no images, no restart of commands that end, no management network and no limits on nodes.
// The kernel must be Linux 5.12 or newer. A Lab from Up with DieWithParent must be ended by Down; any other may be
// dropped and found again by Open.
package runner
