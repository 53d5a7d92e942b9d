package runner

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Parts of the messages of the kernel's inet_diag: the head of each, and what names a socket in them.
const (
	diagFamily = 0 // offsets in inet_diag_msg
	diagID     = 4
	diagIDSize = 48
)

// forgetSockets ends the TCP sockets that have outlived their processes: those that still wait for the answer to their FIN,
// and those in TIME-WAIT. Left there, they would take the packets of a connection that a client has made elsewhere meanwhile,
// with the same port, and never answer them; a machine that has just been switched on answers by RST.
func forgetSockets() error {
	var errs []error
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		left, err := askDiag(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, family, make([]byte, diagIDSize))
		if err != nil {
			errs = append(errs, fmt.Errorf("list TCP sockets: %w", err))
			continue
		}
		for _, msg := range left {
			if len(msg) < diagID+diagIDSize {
				continue
			}
			_, err := askDiag(nl.SOCK_DESTROY, unix.NLM_F_ACK, msg[diagFamily], msg[diagID:diagID+diagIDSize])
			if err != nil && !errors.Is(err, unix.ENOENT) { // it may have ended by itself
				errs = append(errs, fmt.Errorf("end a TCP socket: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// askDiag sends an inet_diag_req_v2 about TCP sockets in any state.
func askDiag(kind, flags int, family byte, id []byte) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddRawData(append([]byte{family, unix.IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff}, id...))
	return req.Execute(unix.NETLINK_INET_DIAG, 0)
}
