package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

// What a runner asks of an init, over the leash while it builds and over the node's Unix socket later.
const (
	opSetup  = "setup"  // build the node's root; comes first
	opDetach = "detach" // live on when the leash closes
	opStart  = "start"  // run the node's cmd
	opKill   = "kill"   // end every process but init
	opStop   = "stop"   // have the cmd end in order

	opPowerOff = "power off"
	opPowerOn  = "power on"
	opPause    = "pause"
	opResume   = "resume"
	opFill     = "fill the disk of"
	opFree     = "free the disk of"
)

type request struct {
	Op   string
	Spec *spec  `json:",omitempty"` // with opSetup
	Role string `json:",omitempty"` // with opPause and opResume; empty for every process
}

type reply struct {
	Err string `json:",omitempty"`
}

// spec is all that an init has to know.
type spec struct {
	Node   topology.Node // binds with absolute sources
	Binary string        // shown in the node as /usr/local/bin/anycastle
	Mount  string        // an empty folder, the same for all nodes, to mount the new root on
}

const callTimeout = 30 * time.Second

// exchange sends one request and waits for its reply.
func exchange(ctx context.Context, c net.Conn, r request) error {
	deadline := time.Now().Add(callTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(c).Encode(r); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	var answer reply
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	if answer.Err != "" {
		return errors.New(answer.Err)
	}
	return nil
}

// call asks the init of a node for one thing.
func (l *Lab) call(ctx context.Context, node string, r request) error {
	if _, err := l.init(node); err != nil {
		return err
	}
	path, done, err := sockPath(l.StateDir, node)
	if err != nil {
		return err
	}
	defer done()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("reach init of %s: %w", node, err)
	}
	defer c.Close()
	if err := exchange(ctx, c, r); err != nil {
		return fmt.Errorf("%s %s: %w", r.Op, node, err)
	}
	return nil
}

// sockPath gives a name for a node's socket that fits the 108 bytes of a socket address however deep the state folder
// lies. The name is good until done is called.
func sockPath(dir, node string) (path string, done func(), err error) {
	fd, err := unix.Open(filepath.Join(dir, sockDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("open socket folder: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, node), func() { unix.Close(fd) }, nil
}

// listen makes the socket that a node's init will answer on and gives its descriptor to hand over.
func listen(dir, node string) (*os.File, error) {
	path, done, err := sockPath(dir, node)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", node, err)
	}
	defer ln.Close()
	ln.SetUnlinkOnClose(false)
	return ln.File()
}

// Kill ends every process in the node but init at once, as a crash of the server's software would: the kernel closes
// their sockets, links and addresses stay. It waits until they have ended.
func (l *Lab) Kill(ctx context.Context, node string) error {
	return l.call(ctx, node, request{Op: opKill})
}

// Start runs the node's cmd again, with the log appended to. It is an error while the cmd still runs, and without power.
func (l *Lab) Start(ctx context.Context, node string) error {
	return l.call(ctx, node, request{Op: opStart})
}
