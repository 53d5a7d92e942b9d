package bfd

import "fmt"

// State is that of a session (RFC 5880 4.1).
type State uint8

// The states, with their numbers on the wire.
const (
	AdminDown State = iota // held down by an operator, which says nothing about the way to the peer
	Down
	Init // the peer is heard, and may not hear us yet
	Up
)

var stateNames = [...]string{"admin-down", "down", "init", "up"}

// String gives the state as it is shown and logged.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText makes JSON say what String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no BFD state; use one of %v", b, stateNames)
}

// Diag says why a session changed its state last (RFC 5880 4.1). A peer may send a number that has no name.
type Diag uint8

// The diagnostics of RFC 5880.
const (
	NoDiag                  Diag = iota
	DetectionExpired             // nothing was heard for a detection time
	EchoFailed                   // of the echo function
	NeighborSignalled            // the peer says that it is down, so it may not hear us
	ForwardingReset              // of the forwarding plane
	PathDown                     // something else found the path down
	ConcatenatedDown             // a path behind this one is down
	AdministrativeDown           // an operator's order
	ReverseConcatenatedDown      // a path behind this one is down, seen from the other end
)

var diagNames = [...]string{
	"no diagnostic", "control detection time expired", "echo function failed", "neighbor signalled session down",
	"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down",
}

// String gives the diagnostic in RFC 5880's words.
func (d Diag) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// drop is why a packet was not taken.
type drop uint8

// The reasons, in the order in which they are looked for: the TTL, then RFC 5880 6.8.6.
const (
	taken drop = iota
	dropTTL
	dropVersion
	dropLength
	dropMultiplier
	dropMultipoint
	dropMyDiscriminator
	dropYourDiscriminator
	dropState
	dropNoSession
	dropAddress
	dropAuthUnexpected
	dropAuthMissing
	dropAuthType
	dropAuthKey
	dropAuthLength
	dropAuthDigest
	dropAuthSequence
	dropReasons
)

var dropNames = [dropReasons]string{
	"taken", "ttl", "version", "length", "multiplier", "multipoint", "my_discriminator", "your_discriminator", "state",
	"no_session", "address", "auth_unexpected", "auth_missing", "auth_type", "auth_key", "auth_length", "auth_digest", "auth_sequence",
}

// String gives the reason as it stands in Status and in metrics.
func (d drop) String() string { return dropNames[d] }
