package probe

import (
	"context"
	"net/netip"
	"time"
)

// Target is one thing to probe. Two targets are equal (==) when they have the same Config in memory.
type Target struct {
	Name   string // the caller's own name for it; unique within one Runner
	Addr   netip.AddrPort
	Mark   uint32     // set as SO_MARK on every socket of the probe (needs CAP_NET_ADMIN); 0: none
	VIP    netip.Addr // address of it that packets with the mark come to; exec alone needs to be told. The zero Addr: none
	Source netip.Addr // address that the probe's sockets are bound to; the zero Addr leaves it to the kernel
	Config *Config    // valid, with its defaults; not changed while a Runner has it; targets may share one
}

// Admin is what a target's agent wants done with it, whatever its health is.
type Admin string

// The words of an agent. They are HAProxy's.
const (
	AdminNone  Admin = ""      // it has not said
	AdminReady Admin = "ready" // takes drain and maint back
	AdminDrain Admin = "drain" // no new flows
	AdminMaint Admin = "maint" // out of service, and no alarm
)

// Advice is what a target's agent has said so far. It comes from agent-check alone; every other probe leaves it as it
// is at first: weight 100, no word, not down.
type Advice struct {
	Weight int    // percent of the configured weight, 0 to 1000
	Admin  Admin  // its last word
	Down   string // not empty: it called itself down, and has not called itself up since; as it put it
}

// Result is one finished probe.
type Result struct {
	Target  Target
	State   State // after this result
	Changed bool  // State differs from the one before
	Err     error // why this one probe failed, at most 200 printable characters; nil when it passed
	Ours    bool  // Err is this machine's want of something, says nothing of the target, and has not counted
	Advice        // after this result
	At      time.Time
	Took    time.Duration
}

// Func probes a target once; nil means healthy. It must return soon after ctx is done. What it hears from the target's
// agent it writes to said; no one else reads or writes said meanwhile.
type Func func(ctx context.Context, t Target, said *Advice) error
