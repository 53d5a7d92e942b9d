package milter

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/smtpd"
)

// see gives what a milter with these flags hears of one transaction.
func see(t *testing.T, version, flags uint32, env *smtpd.Envelope, client smtpd.Client) []string {
	t.Helper()
	f := newFake(func(code byte, data []byte) ([]byte, bool) {
		say, gone := obliging(code, data)
		mute := map[byte]uint32{
			cmdConnect: muteConnect, cmdHelo: muteHelo, cmdMail: muteMail, cmdRcpt: muteRcpt, cmdData: muteData,
			cmdField: muteField, cmdHeadEnd: muteHeadEnd, cmdBody: muteBody,
		}[code]
		if flags&mute != 0 {
			say = nil
		}
		return say, gone
	})
	f.version, f.flags = version, flags
	s, err := chainOf(nil, f).Open(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if call, err := transact(t.Context(), s, env); err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	s.Close()
	synctest.Wait()
	return f.said()
}

func TestWhatAMilterHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := newEnvelope(t, "Authentication-Results: mx.example.org; none\r\n", letter)
		env.User = "x@example.net"
		env.Options = smtp.MailOptions{Size: 120, Body: smtp.Body8BitMIME}
		client := smtpd.Client{Addr: env.Addr, Helo: env.Helo, TLS: true, TLSVersion: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
		got := see(t, 6, 0, env, client)
		id := strings.TrimPrefix(got[len(got)-3], "{E} i|")
		if len(id) < 10 {
			t.Fatalf("last words are %q", got[len(got)-3:])
		}
		want := []string{
			"O",
			"{C} j|mx.example.org|{daemon_name}|smtp|v|anycastle|_|unknown [192.0.2.7]|{client_addr}|192.0.2.7|{client_name}|unknown",
			"C unknown|4||192.0.2.7",
			"{H} {tls_version}|TLSv1.3|{cipher}|TLS_AES_128_GCM_SHA256",
			"H client.example",
			"{M} i|ID|{mail_addr}|x@example.net|{mail_host}|example.net|{mail_mailer}|smtp|{auth_authen}|x@example.net",
			"M <x@example.net>|SIZE=120|BODY=8BITMIME",
			"{R} i|ID|{rcpt_addr}|a@example.org|{rcpt_host}|example.org|{rcpt_mailer}|smtp",
			"R <a@example.org>",
			"{R} i|ID|{rcpt_addr}|b@example.org|{rcpt_host}|example.org|{rcpt_mailer}|smtp",
			"R <b@example.org>",
			"{T} i|ID",
			"T",
			"L Authentication-Results|mx.example.org; none",
			"L Received|from here\n\tby there",
			"L Subject| two spaces",
			"L subject|another",
			"L X-Note|caf\xe9",
			"{N} i|ID",
			"N",
			"B 16",
			"{E} i|ID",
			"E",
			"Q",
		}
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], id, "ID")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestMilterSparesItselfSteps(t *testing.T) {
	for _, tc := range []struct {
		name           string
		version, flags uint32
		want           string
	}{
		{"nothing", 6, noConnect | noHelo | noMail | noRcpt | noData | noFields | noHeadEnd | noBody, "OEQ"},
		{"no fields", 6, noFields, "OCHMRRTNBEQ"},
		{"no end of the header", 6, noHeadEnd, "OCHMRRTLLLLBEQ"},
		{"no body", 6, noBody, "OCHMRRTLLLLNEQ"},
		{"no client", 6, noConnect | noHelo, "OMRRTLLLLNBEQ"},
		{"version 2", 2, 0, "OCHMRRLLLLNBEQ"},
		{"no answers but one", 6, mutes, "OCHMRRTLLLLNBEQ"},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			env := newEnvelope(t, "", letter)
			var got strings.Builder
			for _, h := range see(t, tc.version, tc.flags, env, env.Client) {
				if h[0] != '{' {
					got.WriteByte(h[0])
				}
			}
			if got.String() != tc.want {
				t.Errorf("heard %s, want %s", got.String(), tc.want)
			}
		})
	}
}

func TestOddHeaderAndNoClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := newEnvelope(t, "", "A: b\r\nC:d\r\nE : f\x00g\r\nnot a field\r\nH: i\r\n")
		got := strings.Join(see(t, 6, leadingSpace, env, smtpd.Client{}), "\n")
		for _, want := range []string{"\nC unknown|U\n", "\nL A| b\n", "\nL C|d\n", "\nL E| f g\n", "\nB 19\n", "\n{C} j|mx.example.org|{daemon_name}|smtp|v|anycastle\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
}

func TestLongFieldFitsIntoAPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := newEnvelope(t, "", "X-Long: "+strings.Repeat("x", 70000)+"\r\n\r\n")
		want := "L X-Long|" + strings.Repeat("x", maxValue)
		if got := see(t, 6, 0, env, env.Client); !slices.Contains(got, want) {
			t.Errorf("field is not heard with %d bytes of its value", maxValue)
		}
		env = newEnvelope(t, "", strings.Repeat("X", 60000)+": "+strings.Repeat("x", 70000)+"\r\n\r\n")
		for _, heard := range see(t, 6, 0, env, env.Client) {
			if len(heard) > maxChunk {
				t.Errorf("a packet has %d bytes; libmilter takes %d", len(heard), maxChunk)
			}
		}
	})
}

func TestClientOfIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := newEnvelope(t, "", letter)
		got := see(t, 6, 0, env, smtpd.Client{Addr: netip.MustParseAddr("2001:db8::7")})
		if want := "C unknown|6||2001:db8::7"; got[2] != want {
			t.Errorf("heard %q, want %q", got[2], want)
		}
	})
}

func TestBodyGoesInChunks(t *testing.T) {
	text := "A: b\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", 3*65536/16)
	for _, tc := range []struct {
		name  string
		say   []byte
		flags uint32
		want  []string
	}{
		{"all", packet(ansContinue), 0, []string{"B 65535", "B 65535", "B 65535", "B 3", "E"}},
		{"none is answered", nil, muteBody, []string{"B 65535", "B 65535", "B 65535", "B 3", "E"}},
		{"skip", packet(ansSkip), maySkip, []string{"B 65535", "E"}},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			f := newFake(on(cmdBody, tc.say))
			f.flags = tc.flags
			s := openSession(t, chainOf(nil, f))
			if call, err := transact(t.Context(), s, newEnvelope(t, "", text)); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			s.Close()
			var got []string
			for _, h := range f.said() {
				if h[0] == 'B' || h[0] == 'E' {
					got = append(got, h)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConnectionIsKeptForTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(obliging)
		s := openSession(t, chainOf(nil, f))
		if f.conns != 0 {
			t.Errorf("connected before MAIL")
		}
		for range 2 {
			if call, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
		}
		env := newEnvelope(t, "", letter)
		if err := s.Mail(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		s.Reset() // RSET
		s.Reset()
		again := newEnvelope(t, "", letter)
		again.Helo = "other.example" // a second EHLO
		if call, err := transact(t.Context(), s, again); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
		s.Close()
		synctest.Wait()
		if got, want := f.commands(), "OCHMRRTLLLLNBE"+"MRRTLLLLNBE"+"MA"+"HMRRTLLLLNBE"+"Q"; got != want || f.conns != 1 {
			t.Errorf("milter heard %s over %d connections, want %s", got, f.conns, want)
		}
	})
}

func TestIdleConnectionThatIsOfNoUse(t *testing.T) {
	for _, tc := range []struct {
		name  string
		at    byte // the first connection ends with this command
		more  []byte
		gone  bool
		mutes uint32
		want  string
	}{
		{"closed", cmdEnd, nil, true, 0, "OCHMRRTLLLLNBE" + "OCHMRRTLLLLNBE"},
		{"closed, and silent until the end", cmdEnd, nil, true, mutes, "OCHMRRTLLLLNBE" + "OCHMRRTLLLLNBE"},
		{"says too much", cmdEnd, packet(ansAccept), false, 0, "OCHMRRTLLLLNBE" + "OCHMRRTLLLLNBE"},
		{"closed by MAIL", cmdMail, nil, true, 0, "OCHMRRTLLLLNBE" + "M" + "OCHMRRTLLLLNBE"},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			times := map[byte]int{}
			f := newFake(func(code byte, data []byte) ([]byte, bool) {
				say, gone := obliging(code, data)
				if tc.mutes != 0 && code != cmdOptions && code != cmdEnd {
					say = nil
				}
				times[code]++
				if code == cmdEnd && tc.at == cmdEnd && times[code] == 1 {
					return slices.Concat(say, tc.more), tc.gone
				}
				if code == cmdMail && tc.at == cmdMail && times[code] == 2 {
					return nil, true
				}
				return say, gone
			})
			f.flags = tc.mutes
			c := chainOf(nil, f)
			s := openSession(t, c)
			for range 2 {
				if call, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != nil {
					t.Fatalf("%s: %v", call, err)
				}
			}
			s.Close()
			synctest.Wait()
			if got := strings.TrimSuffix(f.commands(), "Q"); got != tc.want {
				t.Errorf("milter heard %s, want %s", got, tc.want)
			}
			if st := c.Status()[0]; len(st.Failures) != 0 || st.Verdicts[verdictAccept] != 2 || st.Connections != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestVerdictOnAClientHoldsForItsSession(t *testing.T) {
	for _, tc := range []struct {
		say  byte
		code int
	}{{ansReject, 550}, {ansTempfail, 451}, {ansAccept, 0}} {
		inBubble(t, string(tc.say), func(t *testing.T) {
			f := newFake(on(cmdHelo, packet(tc.say)))
			c := chainOf(nil, f)
			s := openSession(t, c)
			defer s.Close()
			for range 3 {
				_, err := transact(t.Context(), s, newEnvelope(t, "", letter))
				var reply *smtp.SMTPError
				if errors.As(err, &reply); (reply == nil) != (tc.code == 0) || reply != nil && reply.Code != tc.code {
					t.Errorf("%v, want %d", err, tc.code)
				}
			}
			synctest.Wait()
			if f.commands() != "OCHQ" || c.Status()[0].Connections != 0 {
				t.Errorf("milter heard %s; %d connections", f.commands(), c.Status()[0].Connections)
			}
		})
	}
}

// TestSocketsAreNotLeaked has milters fail in all ways over real sockets.
func TestSocketsAreNotLeaked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "milter.sock")
	list := []Config{{Name: "m1", Addr: "unix:" + path, Timeout: time.Minute, OnFailure: Tempfail}}
	c := New(list, Options{Daemon: "smtp", MaxSize: 1 << 20})
	round := func() error {
		s := openSession(t, c)
		defer s.Close()
		_, err := transact(t.Context(), s, newEnvelope(t, "", letter))
		return err
	}
	if err := round(); err != errUnavailable { // nobody listens
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var now atomic.Int64
	f := newFake(nil)
	f.script = func(code byte, data []byte) ([]byte, bool) {
		way := int(now.Load())
		if d := deaths[way%len(deaths)]; !d.slow && code == stages[way/len(deaths)%len(stages)].code {
			return d.say, d.gone
		}
		return obliging(code, data)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.serve(conn)
		}
	}()
	fds, routines := openFiles(t), runtime.NumGoroutine()
	for way := range len(deaths) * len(stages) {
		now.Store(int64(way))
		if err := round(); err != nil && err != errUnavailable {
			t.Fatalf("%s: %v", deaths[way%len(deaths)].name, err)
		}
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	st := c.Status()[0]
	var failed uint64
	for _, n := range st.Failures {
		failed += n
	}
	slow := 3
	if want := uint64((len(deaths)-slow)*len(stages) + 1); failed != want || st.Connections != 0 {
		t.Errorf("%d failures, want %d; %d connections left", failed, want, st.Connections)
	}
	for end := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		files, running := openFiles(t), runtime.NumGoroutine()
		if files <= fds && running <= routines {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d files and %d goroutines, at first %d and %d", files, running, fds, routines)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestDialingEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New([]Config{{Name: "m1", Addr: "192.0.2.1:1", Timeout: time.Minute, OnFailure: Tempfail}}, Options{
			dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
		s := openSession(t, c)
		defer s.Close()
		start := time.Now()
		if _, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != errUnavailable || time.Since(start) != connectingTime {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
