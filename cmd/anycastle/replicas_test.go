package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/replica"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
)

const replicasNode = `mail:
  hostname: NAME.example.org
  directory: DIR/mailboxes.yml
  tls: {cert: CERT, key: KEY, ca: CA}
  luns:
    - name: lun-east
      lmtp: LMTP
      imap: IMAP
      queue: QUEUE
      two_site: POLICY
      switch_back_after: BACK
      replicas:
        - {name: east-store1, site: east, addr: "ADDR0"}
        - {name: east-standby, site: east, addr: "ADDR1"}
        - {name: west-store1, site: west, addr: "ADDR2"}
        - {name: west-standby, site: west, addr: "ADDR3"}
        - {name: witness, site: third, addr: "ADDR4", witness: true}
`

var (
	replicaNames = []string{"east-store1", "east-standby", "west-store1", "west-standby", "witness"}
	mailReplicas = replicaNames[:4]
)

// replicaSite is the replicas of a LUN, each a process of the built binary, and a front end.
type replicaSite struct {
	t      *testing.T
	dir    string
	binary string
	text   *strings.Replacer
	smtp   string
	imap   string

	mu    sync.Mutex
	procs map[string]*process
}

// newReplicaSite makes the files of all nodes.
func newReplicaSite(t *testing.T, policy, back string) *replicaSite {
	t.Helper()
	binary, err := exec.LookPath("anycastle")
	if err != nil {
		t.Fatal(err)
	}
	s := &replicaSite{t: t, dir: t.TempDir(), binary: binary, procs: map[string]*process{}}
	ca := mtlstest.NewCA(t)
	ca.Names = append(ca.Names, replicaNames...)
	f := ca.Node(t, "node")
	ports := s.ports(10)
	s.smtp, s.imap = ports[3], ports[4]
	words := []string{
		"DIR", s.dir, "CERT", f.Cert, "KEY", f.Key, "CA", f.CA, "LMTP", ports[0], "IMAP", ports[1], "QUEUE", ports[2],
		"POLICY", policy, "BACK", back, "SMTP", ports[3], "FRONT", ports[4],
	}
	for i := range replicaNames {
		words = append(words, fmt.Sprintf("ADDR%d", i), ports[5+i])
	}
	s.text = strings.NewReplacer(words...)
	hash, err := directory.HashPassword("secret")
	s.do(err)
	s.do(os.WriteFile(filepath.Join(s.dir, "mailboxes.yml"), fmt.Appendf(nil,
		"mailboxes:\n  - {address: alice@example.org, lun: lun-east, password: '%s'}\n", hash), 0o600))
	for i, name := range replicaNames {
		section := fmt.Sprintf("  store: {node: %s, path: %s, replica_listen: \"%s\", drain_deadline: 3s}\n", name, filepath.Join(s.dir, name), ports[5+i])
		if name == "witness" {
			section = strings.Replace(section, "store:", "witness:", 1)
			section = strings.Replace(section, ", drain_deadline: 3s", "", 1)
		}
		s.do(os.Mkdir(filepath.Join(s.dir, name), 0o700))
		s.node(name, section)
	}
	s.node("front", "  smtp: {listen: [\"SMTP\"]}\n  imap: {listen: [\"FRONT\"]}\n")
	t.Cleanup(func() {
		for name := range s.procs {
			s.end(name, syscall.SIGKILL)
		}
	})
	return s
}

func (s *replicaSite) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *replicaSite) node(name, section string) {
	s.t.Helper()
	text := s.text.Replace(strings.Replace(replicasNode, "NAME", name, 1) + section)
	s.do(os.WriteFile(filepath.Join(s.dir, name+".yml"), []byte(text), 0o600))
}

// ports gives addresses that nobody listens at.
func (s *replicaSite) ports(n int) (list []string) {
	s.t.Helper()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		s.do(err)
		defer ln.Close()
		list = append(list, ln.Addr().String())
	}
	return list
}

// start runs a role of a node.
func (s *replicaSite) start(name, role, node string) {
	s.t.Helper()
	p := &process{ended: make(chan error, 1)}
	p.Cmd = exec.Command(s.binary, "mail", role, "-c", filepath.Join(s.dir, node+".yml"), "--run-dir", filepath.Join(s.dir, "run-"+name), "--debug")
	p.Stderr = &p.stderr
	s.do(p.Start())
	go func() { p.ended <- p.Wait() }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[name] = p
}

// startReplica runs a replica, or the witness.
func (s *replicaSite) startReplica(name string) {
	s.t.Helper()
	role := "store"
	if name == "witness" {
		role = "witness"
	}
	s.start(name, role, name)
}

// end sends a signal and waits for the end.
func (s *replicaSite) end(name string, sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	p := s.procs[name]
	delete(s.procs, name)
	s.mu.Unlock()
	if p == nil {
		return
	}
	if err := p.Process.Signal(sig); err != nil {
		s.t.Logf("%s: %v", name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		s.t.Errorf("%s does not end at %v", name, sig)
		s.do(p.Process.Kill())
	}
	if s.t.Failed() {
		s.t.Logf("%s said:\n%s", name, tail(p.stderr.String(), 6000))
	}
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// status asks a replica; nil while it does not answer.
func (s *replicaSite) status(name string) *replica.Status {
	var list []mailroles.LUNState
	role := "store"
	if name == "witness" {
		role = "witness"
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	if err := daemon.Get(ctx, filepath.Join(s.dir, "run-"+name), role, "/v1/lun", &list); err != nil || len(list) != 1 {
		return nil
	}
	return list[0].Replica
}

// active gives the replica that serves; empty: none.
func (s *replicaSite) active() string {
	for _, name := range mailReplicas {
		if st := s.status(name); st != nil && st.Serving && st.State == replica.Active {
			return name
		}
	}
	return ""
}

// until waits for what processes bring about.
func (s *replicaSite) until(what string, patience time.Duration, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			for name, p := range s.procs {
				s.t.Logf("%s: %+v\n%s", name, s.status(name), tail(p.stderr.String(), 5000))
			}
			s.t.Fatalf("not within %v: %s", patience, what)
		}
		select {
		case <-s.t.Context().Done():
			s.t.Fatal("interrupted")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// whole waits until all replicas have votes and are in step.
func (s *replicaSite) whole() {
	s.t.Helper()
	s.until("all replicas to vote and to be in step", 60*time.Second, func() bool {
		st := s.status(cmpOr(s.active(), "east-store1"))
		return st != nil && st.Serving && !slices.ContainsFunc(st.Members, func(m replica.MemberStatus) bool {
			return !m.Voter || !m.Fit || m.Missing > 0 || m.Lag > 0
		})
	})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var anyServer = &tls.Config{InsecureSkipVerify: true} // the CA is the test's own

// send mails a message, and tries again for a while as a sender does.
func (s *replicaSite) send(id string) error {
	text := "From: x@example.org\r\nMessage-ID: <" + id + "@example.org>\r\nSubject: " + id + "\r\n\r\n" + strings.Repeat("text\r\n", 50)
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := s.sendOnce(text)
		var reply *smtp.SMTPError
		if err == nil || errors.As(err, &reply) && reply.Code >= 500 || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *replicaSite) sendOnce(text string) error {
	conn, err := net.DialTimeout("tcp", s.smtp, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	c := smtp.NewClient(conn)
	return c.SendMail("x@example.org", []string{"alice@example.org"}, strings.NewReader(text))
}

// subjects reads all subjects in INBOX by IMAP, in order of UIDs.
func (s *replicaSite) subjects() (list []string, uids []imap.UID, err error) {
	c, err := imapclient.DialStartTLS(s.imap, &imapclient.Options{TLSConfig: anyServer})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	if err := c.Login("alice@example.org", "secret").Wait(); err != nil {
		return nil, nil, err
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil || sel.NumMessages == 0 {
		return nil, nil, err
	}
	msgs, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{UID: true, Envelope: true}).Collect()
	for _, m := range msgs {
		list, uids = append(list, m.Envelope.Subject), append(uids, m.UID)
	}
	return list, uids, err
}

// all has everything run.
func (s *replicaSite) all() {
	s.t.Helper()
	for _, name := range replicaNames {
		s.startReplica(name)
	}
	s.start("front-smtp", "smtp", "front")
	s.start("front-imap", "imap", "front")
	s.whole()
}

// TestReplicasSurviveAKill has five processes form a LUN, kills the active one under load, and compares what the others have.
func TestReplicasSurviveAKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven processes")
	}
	s := newReplicaSite(t, "wait", "1h")
	s.all()
	if got := s.active(); got != "east-store1" {
		t.Errorf("%s is active, want the preferred one", got)
	}
	var sent []string
	var mu sync.Mutex
	mail := func(prefix string, n int) {
		var senders sync.WaitGroup
		for i := range n {
			senders.Go(func() {
				id := fmt.Sprintf("%s-%d", prefix, i)
				if err := s.send(id); err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, id)
			})
		}
		senders.Wait()
	}
	mail("before", 20)

	var during sync.WaitGroup
	during.Go(func() { mail("during", 20) })
	begun := time.Now()
	s.end("east-store1", syscall.SIGKILL)
	if err := s.send("first"); err != nil {
		t.Fatal(err)
	}
	t.Logf("first message acknowledged %v after the kill", time.Since(begun))
	during.Wait()
	mail("after", 10)
	sent = append(sent, "first")
	s.check(sent)

	s.startReplica("east-store1")
	s.whole()
	s.same()
	s.check(sent)
}

// check compares what IMAP shows with what was acknowledged: nothing is lost, and nothing is there twice.
func (s *replicaSite) check(sent []string) {
	s.t.Helper()
	got, uids, err := s.subjects()
	if err != nil {
		s.t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(sent))
	slices.Sort(got)
	if !slices.Equal(want, got) {
		s.t.Errorf("INBOX has %v\nwant %v", got, want)
	}
	slices.Sort(uids)
	if len(slices.Compact(uids)) != len(got) {
		s.t.Error("a UID is there twice")
	}
}

// same waits until all mail replicas have done the same operations.
func (s *replicaSite) same() {
	s.t.Helper()
	s.until("all replicas to be the same", 20*time.Second, func() bool {
		chains := map[string]bool{}
		for _, name := range mailReplicas {
			st := s.status(name)
			if st == nil || st.CatchUp.Missing > 0 {
				return false
			}
			chains[fmt.Sprint(st.Applied, st.Chain)] = true
		}
		return len(chains) == 1
	})
}
