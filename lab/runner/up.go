package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

// Options says what Up builds. Only Topology is needed.
type Options struct {
	Topology string // the NAME.clab.yml; its folder is copied, so that a lab never writes into it
	Files    fs.FS  // where Topology is a path; nil: on the machine. Its files come without their permissions
	Name     string // of the lab; the topology's name when empty. Two labs of one topology need two names
	Root     string // folder of all labs' state folders; DefaultRoot when empty
	Binary   string // runs `lab init` and is on every node's PATH as anycastle; this program when empty

	// Prepare is called before any node starts, with the copy of the topology's folder: the place to make keys that
	// binds show in nodes. Nil for nothing.
	Prepare func(topoDir string) error
	// Progress hears a short line for each step. Nil for nothing.
	Progress func(line string)
	// DieWithParent ends the lab when this process ends, however it ends.
	DieWithParent bool
}

// parallel bounds how many nodes are worked on at once.
const parallel = 8

// Up builds a lab and returns when every node's cmd has been started and every exec has succeeded. When it fails or
// ctx ends first, all that was built is removed. The error is ErrUp when the lab is up already; what a dead lab of the
// same name has left is removed first. ctx does not bound the life of the lab.
func Up(ctx context.Context, o Options) (*Lab, error) {
	l, err := newLab(&o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	unlock, err := lock(l.StateDir)
	if err != nil {
		return nil, fmt.Errorf("bring lab %s up: %w", l.Name, err)
	}
	defer unlock()
	if err := l.clearDead(); err != nil {
		return nil, err
	}
	if err := l.build(ctx, o); err != nil {
		err = fmt.Errorf("bring lab %s up: %w", l.Name, errors.Join(ctx.Err(), err))
		return nil, errors.Join(err, l.tearDown(context.WithoutCancel(ctx), false))
	}
	return l, nil
}

// newLab reads the topology and fills in what the options leave out.
func newLab(o *Options) (*Lab, error) {
	topo, err := topology.LoadFrom(o.Files, o.Topology)
	if err != nil {
		return nil, err
	}
	source := o.Topology
	if o.Files == nil {
		if source, err = filepath.Abs(source); err != nil {
			return nil, err
		}
	}
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find own binary: %w", err)
		}
	}
	if o.Binary, err = filepath.Abs(o.Binary); err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	name := cmp.Or(o.Name, topo.Name)
	dir, err := stateDir(o.Root, name)
	if err != nil {
		return nil, err
	}
	return &Lab{Name: name, StateDir: dir, Topology: topo, source: source}, nil
}

// clearDead removes what a lab of the same name has left, unless one of its nodes still lives.
func (l *Lab) clearDead() error {
	s, err := readState(l.StateDir)
	if err == nil {
		for _, i := range s.Inits {
			if i.alive() {
				return fmt.Errorf("bring lab %s up: %w; take it down first or give this one another name", l.Name, ErrUp)
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := clear(l.StateDir, true); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(l.StateDir, logDir))
}

func (l *Lab) build(ctx context.Context, o Options) error {
	if err := l.writeState(); err != nil { // from here on Down finds what is left of a runner that is killed
		return err
	}
	for _, dir := range []string{logDir, sockDir, rootDir} {
		if err := os.Mkdir(filepath.Join(l.StateDir, dir), 0o700); err != nil {
			return fmt.Errorf("make state folder: %w", err)
		}
	}
	copied := filepath.Join(l.StateDir, topoDir)
	if err := o.copyTopology(copied); err != nil {
		return fmt.Errorf("copy topology: %w", err)
	}
	if o.Prepare != nil {
		o.Progress("preparing keys and files")
		if err := o.Prepare(copied); err != nil {
			return fmt.Errorf("prepare topology: %w", err)
		}
	}
	o.Progress(fmt.Sprintf("starting %d nodes", len(l.Topology.Nodes)))
	leashes, err := l.startInits(o)
	if !o.DieWithParent {
		defer closeAll(leashes) // after detach; before it, an init that is let go ends
	} else {
		l.leashes = leashes
	}
	if err != nil {
		return err
	}
	if err := l.setUp(ctx, o, leashes); err != nil {
		return err
	}
	o.Progress(fmt.Sprintf("joining them by %d links", len(l.Topology.Links)))
	if err := l.buildLinks(); err != nil {
		return err
	}
	o.Progress("starting their commands")
	if err := l.startCommands(ctx); err != nil {
		return err
	}
	if o.DieWithParent {
		return nil
	}
	for i, c := range leashes {
		if err := exchange(ctx, c, request{Op: opDetach}); err != nil {
			return fmt.Errorf("detach %s: %w", l.Topology.Nodes[i].Name, err)
		}
	}
	return nil
}

// startInits starts one init for each node, in the topology's order, and writes down who they are. The leashes that
// come back are to be closed even with an error.
func (l *Lab) startInits(o Options) ([]net.Conn, error) {
	l.inits = map[string]initState{}
	var leashes []net.Conn
	for _, node := range l.nodeNames() {
		i, leash, err := l.startInit(node, o.Binary)
		if err != nil {
			return leashes, fmt.Errorf("start init of %s: %w", node, err)
		}
		leashes, l.inits[node] = append(leashes, leash), i
	}
	return leashes, l.writeState()
}

func (l *Lab) startInit(node, binary string) (initState, net.Conn, error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return initState{}, nil, err
	}
	files = append(files, null)
	log, err := os.OpenFile(l.LogPath(node), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return initState{}, nil, err
	}
	files = append(files, log, log)
	listener, err := listen(l.StateDir, node)
	if err != nil {
		return initState{}, nil, err
	}
	files = append(files, listener)
	leash, far, err := newLeash()
	if err != nil {
		return initState{}, nil, err
	}
	files = append(files, far)
	var p *os.Process
	err = onThread(func() (err error) {
		if err := smallTables(); err != nil {
			return err
		}
		p, err = os.StartProcess(binary, []string{"anycastle", "lab", "init"}, &os.ProcAttr{
			Dir:   "/",
			Env:   []string{"PATH=" + nodePath},
			Files: files,
			Sys: &syscall.SysProcAttr{
				Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
				Setsid:     true, // a terminal's ctrl-C is for the runner, which then takes the lab down in order
			},
		})
		return err
	})
	if err != nil {
		leash.Close()
		return initState{}, nil, err
	}
	defer p.Release() // tearDown collects it by its pid, which stays ours until then
	start, _, err := readStat(p.Pid)
	if err != nil {
		leash.Close()
		return initState{}, nil, err
	}
	return initState{Node: node, Pid: p.Pid, Start: start}, leash, nil
}

// newLeash makes the two ends of a leash: one to hold and one to hand over.
func newLeash() (near net.Conn, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make leash: %w", err)
	}
	far = os.NewFile(uintptr(fds[1]), "leash")
	f := os.NewFile(uintptr(fds[0]), "leash")
	defer f.Close()
	if near, err = net.FileConn(f); err != nil {
		far.Close()
		return nil, nil, fmt.Errorf("make leash: %w", err)
	}
	return near, far, nil
}

// setUp lets every init build its root.
func (l *Lab) setUp(ctx context.Context, o Options, leashes []net.Conn) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, n := range l.Topology.Nodes {
		g.Go(func() error {
			node, err := l.resolveBinds(n)
			if err != nil {
				return fmt.Errorf("set up %s: %w", n.Name, err)
			}
			s := &spec{Node: node, Binary: o.Binary, Mount: filepath.Join(l.StateDir, rootDir)}
			if err := exchange(ctx, leashes[i], request{Op: opSetup, Spec: s}); err != nil {
				return fmt.Errorf("set up %s: %w%s", n.Name, err, l.logTail(n.Name))
			}
			return nil
		})
	}
	return g.Wait()
}

// startCommands starts every cmd, and when all are started runs each node's exec in order.
func (l *Lab) startCommands(ctx context.Context) error {
	for _, n := range l.Topology.Nodes {
		if len(n.Cmd) == 0 {
			continue
		}
		if err := l.Start(ctx, n.Name); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, n := range l.Topology.Nodes {
		g.Go(func() error { return l.runExec(ctx, n) })
	}
	return g.Wait()
}

func (l *Lab) runExec(ctx context.Context, n topology.Node) error {
	log, err := os.OpenFile(l.LogPath(n.Name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer log.Close()
	for _, argv := range n.Exec {
		c := l.Command(ctx, n.Name, argv...)
		c.Stdout, c.Stderr = log, log // a file, so that what the command leaves running is not waited for
		if err := c.Run(); err != nil {
			return fmt.Errorf("exec %q in %s: %w%s", argv, n.Name, err, l.logTail(n.Name))
		}
	}
	return nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}
