package queue

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"anycastle/internal/porttest"
)

// sink runs Postfix's smtp-sink at an address of the world until the test ends.
func (w *world) sink(addr string, flags ...string) {
	w.t.Helper()
	path, err := exec.LookPath("smtp-sink")
	if err != nil {
		path = "/usr/sbin/smtp-sink"
	}
	if os.Getuid() == 0 {
		flags = append(flags, "-u", "root")
	}
	at := porttest.Free(w.t, "127.0.0.1").String()
	cmd := exec.Command(path, append(flags, at, "100")...)
	cmd.Stderr = w.log
	if err := cmd.Start(); err != nil {
		w.t.Fatalf("%v; .ci/packages installs it", err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has no other end
		_ = cmd.Wait()
	})
	waitFor(w.t, "smtp-sink", func() bool {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	w.mu.Lock()
	w.hosts[netip.MustParseAddrPort(addr)] = at
	w.mu.Unlock()
}

func TestPostfixTakesMail(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	w.sink("192.0.2.1:25")
	q, _ := w.run()
	for i := range 20 {
		mustPut(t, q, message{from: alice, to: to(fmt.Sprintf("u%d@a.example", i), "x@a.example"), text: hello + strings.Repeat(".dots\r\n", i*100)})
	}
	empty(t, q)
	if s := q.Summary(); s.Delivered != 40 || len(w.reports()) != 0 {
		t.Errorf("%+v, %d reports", s, len(w.reports()))
	}
}

// What smtp-sink answers instead, and what becomes of the message.
func TestPostfixRefuses(t *testing.T) {
	for _, tc := range []struct {
		flags []string
		text  string
		state State
		last  string
	}{
		{[]string{"-f", "RCPT"}, hello, Failed, "500 5.3.0 Error: command failed"},
		{[]string{"-f", "DATA"}, hello, Failed, "500 5.3.0 Error: command failed"},
		{[]string{"-f", "."}, hello, Failed, "500 5.3.0 Error: command failed"},
		{[]string{"-f", "MAIL"}, hello, Failed, "500 5.3.0 Error: command failed"},
		{[]string{"-r", "RCPT"}, hello, Waiting, "450 4.3.0 Error: command failed"},
		{[]string{"-r", "."}, hello, Waiting, "450 4.3.0 Error: command failed"},
		{[]string{"-r", "CONNECT"}, hello, Waiting, "450 4.3.0 Error: command failed"},
		{[]string{"-f", "CONNECT"}, hello, Waiting, "451 4.4.2 a.example [192.0.2.1]: greeting: it answers 500 5.3.0 Error: command failed"},
		{[]string{"-f", "CONNECT", "-B", "521 5.3.2 No mail here"}, hello, Failed, "521 5.3.2 No mail here"},
		{[]string{"-f", "MAIL", "-B", "521 5.3.2 No mail here"}, hello, Failed, "521 5.3.2 No mail here"},
		{[]string{"-q", "DATA"}, hello, Waiting, "451 4.4.2 a.example [192.0.2.1]: envelope: it ended the connection"},
		{[]string{"-q", "."}, hello, Waiting, "451 4.4.2 a.example [192.0.2.1]: body: wait for the answer to the message: it ended the connection"},
		{[]string{"-8"}, "Subject: x\r\n\r\n\xff\r\n", Failed, "554 5.6.3 a.example takes no 8-bit message, and it is not converted"},
		{[]string{"-8"}, hello, Delivered, ""},
		{[]string{"-e"}, hello, Delivered, ""}, // HELO alone
	} {
		t.Run(fmt.Sprintf("%v %.12q", tc.flags, tc.text), func(t *testing.T) {
			w := newWorld(t, "a.example. A 192.0.2.1")
			w.sink("192.0.2.1:25", tc.flags...)
			w.homeErr = fmt.Errorf("mailbox is full") // so that the entry stays to be looked at
			w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour }
			q, _ := w.run()
			mustPut(t, q, message{from: alice, to: to("x@a.example"), text: tc.text})
			if tc.state == Delivered {
				empty(t, q)
				return
			}
			waitFor(t, "an attempt", func() bool { return only(t, q).Attempts == 1 })
			if r := only(t, q); r.State != tc.state || r.Last != tc.last {
				t.Errorf("%s: %q, want %s: %q", r.State, r.Last, tc.state, tc.last)
			}
		})
	}
}
