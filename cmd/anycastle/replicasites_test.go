package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/mailroles/replica"
)

// cut kills all replicas of a site.
func (s *replicaSite) cut(site string) {
	s.t.Helper()
	for _, name := range mailReplicas {
		if strings.HasPrefix(name, site) {
			s.end(name, syscall.SIGKILL)
		}
	}
}

// TestSiteIsCut has the other site and the witness go on, as the policy says.
func TestSiteIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven processes")
	}
	t.Run("expose", func(t *testing.T) {
		s := newReplicaSite(t, "expose", "1s")
		s.all()
		sent := []string{"before", "after"}
		s.do(s.send("before"))
		begun := time.Now()
		s.cut("east")
		s.do(s.send("after"))
		t.Logf("acknowledged %v after the site was cut", time.Since(begun))
		s.check(sent)
		active := s.active()
		st := s.status(active)
		if !strings.HasPrefix(active, "west") || st.TwoSite.State != replica.Exposed || st.TwoSite.Operations == 0 {
			t.Errorf("%s is active, two sites: %+v", active, st.TwoSite)
		}
		if _, out := s.cli(active, "show", "lun"); !strings.Contains(out, "exposed since") {
			t.Errorf("show lun: %s", out)
		}
		s.startReplica("east-store1")
		s.startReplica("east-standby")
		s.whole()
		s.until("both sites to have all, and the home site to have the LUN back", 20*time.Second, func() bool {
			st := s.status("east-store1")
			return st != nil && st.Serving && st.TwoSite.State == replica.BothSites
		})
		s.do(s.send("home"))
		s.check(append(sent, "home"))
		s.same()
	})
	t.Run("wait", func(t *testing.T) {
		s := newReplicaSite(t, "wait", "1h")
		s.all()
		s.do(s.send("before"))
		s.cut("east")
		s.until("a replica of the west to be active, and to refuse", 10*time.Second, func() bool {
			st := s.status(s.active())
			return st != nil && st.TwoSite.State == replica.Alone && strings.Contains(st.Refuses, "the other site is gone")
		})
		if err := s.sendOnce("Subject: refused\r\n\r\n"); err == nil {
			t.Error("a message was acknowledged with one site")
		}
		s.startReplica("east-standby")
		s.do(s.send("after"))
		s.check([]string{"before", "after"})
	})
}

// TestPromote loses a site and the witness, and has what is left go on; then the others come back.
func TestPromote(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven processes")
	}
	s := newReplicaSite(t, "wait", "1h")
	s.all()
	s.do(s.send("before"))
	s.same()
	s.cut("east")
	s.end("witness", syscall.SIGKILL)
	s.until("nobody to be active", 10*time.Second, func() bool { return s.active() == "" })
	s.until("nobody to lead", 10*time.Second, func() bool { st := s.status("west-store1"); return st != nil && st.Active == "" })
	code, out := s.cli("west-store1", "lun", "promote", "lun-east")
	for _, want := range []string{
		"safe:      operations up to ", "safe:      west-standby is heard", "NOT SAFE:  nothing is heard of east-store1 (east, last heard ",
		"NOT SAFE:  nothing is heard of the witness", "every operation that was acknowledged is here",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan does not say %q", want)
		}
	}
	if code != 0 || s.active() != "" {
		t.Fatalf("exit %d, %s: %s", code, s.active(), out)
	}
	t.Log(out)
	if code, out = s.cli("west-store1", "lun", "promote", "lun-east", "--accept-loss", "--yes"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	s.until("it to be active", 10*time.Second, func() bool { return s.active() == "west-store1" })
	s.do(s.send("alone"))
	s.check([]string{"before", "alone"})
	if st := s.status("west-store1"); st.TwoSite.Operations == 0 {
		t.Errorf("nothing is exposed: %+v", st.TwoSite)
	}
	for _, name := range []string{"east-store1", "east-standby", "witness"} {
		s.startReplica(name)
	}
	s.whole()
	s.do(s.send("together"))
	s.check([]string{"before", "alone", "together"})
	s.same()
}

// TestLUNGetsReplicas gives replicas to a LUN that one store had alone: its mail is at all of them then.
func TestLUNGetsReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven processes")
	}
	s := newReplicaSite(t, "wait", "1h")
	alone := filepath.Join(s.dir, "west-store1", "lun-east")
	s.do(os.Mkdir(alone, 0o700))
	whole, _, _ := strings.Cut(replicasNode, "      two_site:")
	text := s.text.Replace(strings.Replace(whole, "NAME", "alone", 1) +
		"  store: {lun: lun-east, path: " + alone + ", lmtp_listen: \"LMTP\", imap_listen: \"IMAP\", queue_listen: \"QUEUE\", drain_deadline: 3s}\n")
	s.do(os.WriteFile(filepath.Join(s.dir, "alone.yml"), []byte(text), 0o600))
	s.start("alone", "store", "alone")
	s.start("front-smtp", "smtp", "front")
	s.start("front-imap", "imap", "front")
	var sent []string
	for i := range 5 {
		sent = append(sent, fmt.Sprintf("alone-%d", i))
		s.do(s.send(sent[i]))
	}
	s.check(sent)
	s.end("alone", syscall.SIGTERM)
	for _, name := range replicaNames {
		s.startReplica(name)
	}
	s.whole()
	s.check(sent)
	s.do(s.send("together"))
	s.check(append(sent, "together"))
	s.same()
	s.until("all bodies to be everywhere", 20*time.Second, func() bool {
		for _, name := range mailReplicas {
			if s.bodies(name) != len(sent)+1 {
				return false
			}
		}
		return true
	})
}
