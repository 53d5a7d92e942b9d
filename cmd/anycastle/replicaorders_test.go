package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/mailroles/replica"
)

// cli runs a command against a replica's process.
func (s *replicaSite) cli(name string, args ...string) (code int, out string) {
	s.t.Helper()
	code, stdout, stderr := outcome(s.t, append(args, "--run-dir", filepath.Join(s.dir, "run-"+name))...)
	return code, stdout + stderr
}

// TestReplicasOfALUN gives the orders that there are, and breaks what a replica has.
func TestReplicasOfALUN(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven processes")
	}
	s := newReplicaSite(t, "wait", "1h")
	s.all()
	var sent []string
	mail := func(id string) {
		t.Helper()
		if err := s.send(id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		sent = append(sent, id)
	}
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"a planned move", s.tryMove},
		{"an order at the wrong replica", s.tryWrongOrders},
		{"a store that is told to stop", s.tryStop},
		{"a replica that lost its disk", s.tryLostDisk},
		{"a rotten body", s.tryScrub},
		{"a replica that is alone with what it has", s.tryOutvoted},
		{"a disk that fails", s.tryBadDisk},
		{"a process that is stopped", s.tryPaused},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			outer := s.t
			s.t = t
			defer func() { s.t = outer }()
			mail(step.name + ", before")
			step.do(t)
			mail(step.name + ", after")
			s.check(sent)
			s.whole()
			s.same()
		})
		if !ok {
			return
		}
	}
}

func (s *replicaSite) tryMove(t *testing.T) {
	code, out := s.cli(s.active(), "lun", "move", "lun-east", "--to", "west-store1", "--why", "test")
	if code != 0 || !strings.Contains(out, "west-store1 is the active store") {
		t.Fatalf("exit %d: %s", code, out)
	}
	t.Log(out)
	s.until("west-store1 to be active", 5*time.Second, func() bool { return s.active() == "west-store1" })
	if code, out = s.cli("west-store1", "show", "lun"); code != 0 || !strings.Contains(out, "to west-store1: test") {
		t.Errorf("show lun: %s", out)
	}
	t.Log(out)
	if code, out = s.cli("west-store1", "explain", "lun", "lun-east"); code != 0 || !strings.Contains(out, "It acknowledges what is on disk at both sites.") {
		t.Errorf("explain lun: %s", out)
	}
	t.Log(out)
}

func (s *replicaSite) tryWrongOrders(t *testing.T) {
	for _, c := range []struct{ at, order, want string }{
		{"east-store1", "lun move lun-east --to east-store1", "west-store1 is the active store of lun-east; give the order there"},
		{"west-store1", "lun move lun-east --to west-store1", "west-store1 is the active store already"},
		{"west-store1", "lun move lun-east --to witness", "witness is no mail replica of lun-east"},
		{"west-store1", "lun move lun-west --to witness", `no replica of a LUN "lun-west" is here`},
		{"west-store1", "lun promote lun-east --accept-loss --yes", "is not promoted: this replica leads the group"},
		{"east-store1", "lun promote lun-east --accept-loss --yes", "is not promoted: west-store1 leads the group"},
		{"east-store1", "lun scrub lun-east", "west-store1 is the active store of lun-east"},
		{"east-store1", "lun snapshot lun-east", "not the active store of the LUN; west-store1 is: give the order there"},
		{"east-store1", "lun snapshot lun-west", "LUN lun-west is not open here; there is lun-east"},
		{"east-store1", "lun restore lun-east alice@example.org --at 1s", "not the active store of the LUN; west-store1 is: give the order there"},
	} {
		if code, out := s.cli(c.at, strings.Fields(c.order)...); code != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%s at %s: exit %d, %s", c.order, c.at, code, out)
		}
	}
}

func (s *replicaSite) tryStop(t *testing.T) {
	begun := time.Now()
	s.end("west-store1", syscall.SIGTERM)
	s.until("another to be active", 5*time.Second, func() bool { return s.active() != "" })
	t.Logf("%s is active %v after the order to stop", s.active(), time.Since(begun))
	s.startReplica("west-store1")
}

func (s *replicaSite) tryLostDisk(t *testing.T) {
	s.end("west-standby", syscall.SIGKILL)
	dir := filepath.Join(s.dir, "west-standby")
	s.do(os.RemoveAll(dir))
	s.do(os.Mkdir(dir, 0o700))
	s.startReplica("west-standby")
	s.until("it to be in step", 30*time.Second, func() bool {
		st := s.status("west-standby")
		return st != nil && st.State == replica.Following && st.Applied > 0 && st.CatchUp.Missing == 0
	})
	if n := s.bodies("west-standby"); n < 5 {
		t.Errorf("west-standby has %d bodies", n)
	}
}

// bodies counts the messages in INBOX of a replica's tree.
func (s *replicaSite) bodies(name string) int { return len(s.bodyFiles(name)) }

func (s *replicaSite) bodyFiles(name string) []string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.dir, name, "lun-east", "alice@example.org", "[cn][ue][rw]", "*"))
	s.do(err)
	return list
}

// tryOutvoted changes what nothing but the comparison with others can tell.
func (s *replicaSite) tryOutvoted(t *testing.T) {
	victim := "west-store1"
	if s.active() == victim {
		victim = "west-standby"
	}
	s.end(victim, syscall.SIGTERM)
	file := filepath.Join(s.dir, victim, "lun-east", "alice@example.org", "subscriptions")
	s.do(os.WriteFile(file, []byte("Nowhere\n"), 0o600))
	s.startReplica(victim)
	s.until("it to be in step", 30*time.Second, func() bool {
		st := s.status(victim)
		return st != nil && st.State == replica.Following && st.Applied > 0
	})
	if code, out := s.cli(s.active(), "lun", "scrub", "lun-east"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	s.until("the replica to have what the others have", 30*time.Second, func() bool {
		text, err := os.ReadFile(file)
		st := s.status(victim)
		return (err != nil || !strings.Contains(string(text), "Nowhere")) && st != nil && st.State == replica.Following
	})
}

func (s *replicaSite) tryScrub(t *testing.T) {
	active := s.active()
	victim := "west-standby"
	file := s.bodyFiles(victim)[0]
	good, err := os.ReadFile(file)
	s.do(err)
	bad := slices.Clone(good)
	bad[len(bad)-3] ^= 1
	s.do(os.WriteFile(file, bad, 0o600))
	if code, out := s.cli(active, "lun", "scrub", "lun-east"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	s.until("the scrub to end", 20*time.Second, func() bool {
		st := s.status(victim)
		return st != nil && !st.Scrub.Ended.IsZero()
	})
	st := s.status(victim).Scrub
	if st.Rotten != 1 || st.Repaired != 1 || len(st.Differing) != 0 || st.Err != "" || st.With == "" {
		t.Errorf("scrub is %+v", st)
	}
	s.until("the body to be right again", 10*time.Second, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && string(text) == string(good)
	})
}

func (s *replicaSite) tryBadDisk(t *testing.T) {
	active := s.active()
	probe := filepath.Join(s.dir, active, "lun-east", ".probe")
	s.do(os.Remove(probe))
	s.do(os.Mkdir(probe, 0o700)) // it cannot be written any more
	s.until("another to be active", 10*time.Second, func() bool { now := s.active(); return now != "" && now != active })
	if st := s.status(active); st == nil || !strings.Contains(st.Unfit, "write to the disk") {
		t.Errorf("%s says %+v", active, st)
	}
	s.do(os.Remove(probe))
	s.until("it to be fit again", 10*time.Second, func() bool { st := s.status(active); return st != nil && st.Unfit == "" })
}

func (s *replicaSite) tryPaused(t *testing.T) {
	active := s.active()
	p := s.procs[active]
	s.do(p.Process.Signal(syscall.SIGSTOP))
	time.Sleep(5 * time.Second) // what is tested is time
	s.do(p.Process.Signal(syscall.SIGCONT))
	serving := 0
	for _, name := range mailReplicas {
		if st := s.status(name); st != nil && st.Serving {
			serving++
		}
	}
	if serving > 1 {
		t.Errorf("%d replicas are active at the same time", serving)
	}
	s.until("one to be active", 10*time.Second, func() bool { return s.active() != "" })
}
