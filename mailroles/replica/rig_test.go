package replica

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/internal/proctest"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

// rig is the replicas of a LUN, on loopback, without anything that serves.
type rig struct {
	t       *testing.T
	ca      *mtlstest.CA
	policy  Policy
	members []group.Member
	dirs    map[string]string
	running map[string]*running
}

type running struct {
	*Replica
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

func newRig(t *testing.T, policy Policy) *rig {
	t.Helper()
	r := &rig{t: t, ca: mtlstest.NewCA(t), policy: policy, dirs: map[string]string{}, running: map[string]*running{}}
	for _, m := range []group.Member{
		{Name: "east-store1", Site: "east"}, {Name: "east-standby", Site: "east"},
		{Name: "west-store1", Site: "west"}, {Name: "west-standby", Site: "west"},
		{Name: "witness", Site: "third", Witness: true},
	} {
		m.Addr = porttest.Free(t, "127.0.0.1").String()
		r.members = append(r.members, m)
		r.dirs[m.Name] = t.TempDir()
	}
	t.Cleanup(func() {
		for name := range r.running {
			r.stop(name)
		}
	})
	return r
}

func (r *rig) start(names ...string) {
	r.t.Helper()
	for _, name := range names {
		material, err := mtls.Load(r.ca.Node(r.t, name), nil)
		proctest.Check(r.t, err)
		log := slog.New(slog.DiscardHandler)
		if os.Getenv("RIG_LOG") != "" {
			log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", name)
		}
		node, err := wire.New(wire.Options{Self: name, Server: material.Server(), Client: material.ClientOfAny(), Log: log})
		proctest.Check(r.t, err)
		opt := Options{
			LUN: "lun-east", Self: name, Members: r.members, TwoSite: r.policy, Dir: r.dirs[name], Node: node, Log: log,
			SwitchBackAfter: time.Hour,
			Serve:           func(ctx context.Context, _ *store.Store, _ uint64) error { <-ctx.Done(); return nil },
		}
		replica, err := New(opt)
		proctest.Check(r.t, err)
		ctx, cancel := context.WithCancel(context.Background())
		n := &running{Replica: replica, cancel: cancel}
		ln, err := net.Listen("tcp", replica.self.Addr)
		proctest.Check(r.t, err)
		n.ended.Go(func() { node.Serve(ctx, ln) })
		n.ended.Go(func() {
			if err := replica.Run(ctx); err != nil {
				r.t.Errorf("%s: %v", name, err)
			}
		})
		r.running[name] = n
	}
}

func (r *rig) stop(names ...string) {
	for _, name := range names {
		r.running[name].cancel()
		r.running[name].ended.Wait()
		delete(r.running, name)
	}
}

// active gives the replica that is active, and takes operations, once there is one.
func (r *rig) active() *running {
	r.t.Helper()
	var is *running
	proctest.Eventually(r.t, "a replica that is active", func() bool {
		for _, n := range r.running {
			if n.Active() && (journal{n.Replica}).Admit() == nil {
				is = n
				return true
			}
		}
		return false
	})
	return is
}

// deliver has a message acknowledged by a replica.
func (r *rig) deliver(n *running, i int) {
	r.t.Helper()
	text := fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i)
	proctest.Eventually(r.t, fmt.Sprintf("message %d is taken", i), func() bool {
		mail := n.Store()
		if mail == nil {
			return false
		}
		box, err := mail.Mailbox("u1@example.org")
		if err != nil {
			return false
		}
		_, err = box.Deliver(store.Incoming{Body: strings.NewReader(text), Size: int64(len(text)), Tx: fmt.Sprintf("%032x", i)})
		return err == nil
	})
}

// follows waits until a replica has a vote in the group of another one, and all that this has.
func (r *rig) follows(name string, leader *running) {
	r.t.Helper()
	proctest.Eventually(r.t, name+" follows", func() bool {
		n, g := r.running[name], leader.group.Load()
		mail := n.Store()
		return g != nil && mail != nil && votes(g, name) && n.era.Load() == leader.era.Load() &&
			mail.Applied() == leader.Store().Applied() && mail.Complete() == mail.Applied().Index
	})
}

var everybody = []string{"east-store1", "east-standby", "west-store1", "west-standby", "witness"}
