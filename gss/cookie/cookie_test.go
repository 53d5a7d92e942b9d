package cookie

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func secret(t testing.TB, s string) Secret {
	t.Helper()
	return Secret(unhex(t, s))
}

// Outputs that the authors of SipHash give for the key 00 01 … 0f and the messages 00, 00 01, …: their appendix A and
// the reference program's table.
func TestSipHash(t *testing.T) {
	var s Secret
	msg := make([]byte, 64)
	for i := range msg {
		msg[i] = byte(i)
	}
	copy(s[:], msg)
	for _, tc := range []struct {
		size int
		want string
	}{
		{0, "310e0edd47db6f72"}, {1, "fd67dc93c539f874"}, {2, "5a4fa9d909806c0d"}, {7, "37d1018bf50002ab"},
		{8, "6224939a79f5f593"}, {15, "e545be4961ca29a1"}, {63, "724506eb4c328a95"},
	} {
		got := binary.LittleEndian.AppendUint64(nil, newKey(s).sum(msg[:tc.size]))
		if hex.EncodeToString(got) != tc.want {
			t.Errorf("%d bytes: %x, want %s", tc.size, got, tc.want)
		}
	}
}

const (
	secretA    = "e5e973e5a6b2a43f48e7dc849e37bfcf" // of RFC 9018 appendix A.1 to A.3
	secretOld  = "dd3bdf9344b678b185a6f5cb60fca715" // of A.4
	secretNew  = "445536bcd2513298075a5d379663c962"
	cookieA1   = "2464c4abcf10c957 01000000 5cf79f11 1f8130c3eee29480"
	cookieA2   = "2464c4abcf10c957 01000000 5cf7a871 d4a564a1442aca77"
	cookieA3   = "fc93fc62807ddb86 01abcdef 5cf78f71 a314227b6679ebf5" // with reserved bytes set
	cookieA3r  = "fc93fc62807ddb86 01000000 5cf7a9ac f73a7810aca2381e"
	cookieA4   = "22681ab97d52c298 01000000 5cf7c579 26556bd0934c72f8"
	cookieA4r  = "22681ab97d52c298 01000000 5cf7c609 a6bb79d16625507a"
	clientA    = "198.51.100.100"
	clientA3   = "203.0.113.203"
	clientA4   = "2001:db8:220:1:59de:d0f4:8769:82b8"
	timeOfA1   = 1559731985
	timeOfA2   = 1559734385
	timeOfA3   = 1559734700
	timeOfA4   = 1559741961
	madeOfA3   = 0x5cf78f71
	clientOfA1 = "2464c4abcf10c957"
)

// RFC 9018 appendix A, each as one query and the reply's cookie.
func TestAppendixA(t *testing.T) {
	for _, tc := range []struct {
		name           string
		secrets        []string
		client, cookie string
		now            uint32
		want           string
		status         Status
	}{
		{"A.1 learning a new server cookie", []string{secretA}, clientA, clientOfA1, timeOfA1, cookieA1, ClientOnly},
		{"A.2 the same client, 40 minutes on", []string{secretA}, clientA, cookieA1, timeOfA2, cookieA2, Valid},
		// the example is answered 1 h 52 min after its cookie was made, when section 4.3 takes it no more
		{"A.3 reserved bytes, too old", []string{secretA}, clientA3, cookieA3, timeOfA3, cookieA3r, Stale},
		{"A.4 IPv6, made with the secret before", []string{secretNew, secretOld}, clientA4, cookieA4, timeOfA4, cookieA4r, Valid},
		{"A.4 without the secret before", []string{secretNew}, clientA4, cookieA4, timeOfA4, cookieA4r, Bad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var others []Secret
			for _, s := range tc.secrets[1:] {
				others = append(others, secret(t, s))
			}
			s := NewServer(secret(t, tc.secrets[0]), others...)
			got, status := s.Renew([]byte("x"), unhex(t, tc.cookie), netip.MustParseAddr(tc.client), tc.now)
			if status != tc.status {
				t.Errorf("status %v, want %v", status, tc.status)
			}
			if want := append([]byte("x"), unhex(t, tc.want)...); !bytes.Equal(got, want) {
				t.Errorf("reply's cookie %x, want %x", got, want)
			}
		})
	}
	s := NewServer(secret(t, secretA))
	if got := s.Check(unhex(t, cookieA3), netip.MustParseAddr(clientA3), madeOfA3); got != Valid {
		t.Errorf("A.3 at the time it was made: %v", got)
	}
}

func TestCheck(t *testing.T) {
	addr := netip.MustParseAddr(clientA)
	s := NewServer(secret(t, secretA))
	flip := func(i int) string {
		c := unhex(t, cookieA1)
		c[i] ^= 1
		return hex.EncodeToString(c)
	}
	for _, tc := range []struct {
		name, cookie string
		addr         netip.Addr
		now          uint32
		want         Status
	}{
		{"none", "", addr, timeOfA1, None},
		{"client only", clientOfA1, addr, timeOfA1, ClientOnly},
		{"7 bytes", clientOfA1[:14], addr, timeOfA1, Malformed},
		{"9 bytes", clientOfA1 + "01", addr, timeOfA1, Malformed},
		{"15 bytes", clientOfA1 + "01000000000000", addr, timeOfA1, Malformed},
		{"16 bytes", clientOfA1 + "0100000000000000", addr, timeOfA1, Bad},
		{"40 bytes", strings.Repeat(clientOfA1, 5), addr, timeOfA1, Bad},
		{"41 bytes", strings.Repeat(clientOfA1, 5) + "00", addr, timeOfA1, Malformed},
		{"valid", cookieA1, addr, timeOfA1, Valid},
		{"valid, IPv4 in IPv6 form", cookieA1, netip.MustParseAddr("::ffff:" + clientA), timeOfA1, Valid},
		{"an hour old", cookieA1, addr, timeOfA1 + 3600, Valid},
		{"older", cookieA1, addr, timeOfA1 + 3601, Stale},
		{"5 minutes ahead", cookieA1, addr, timeOfA1 - 300, Valid},
		{"further ahead", cookieA1, addr, timeOfA1 - 301, Stale},
		{"another address", cookieA1, netip.MustParseAddr(clientA3), timeOfA1, Bad},
		{"other client part", flip(0), addr, timeOfA1, Bad},
		{"other version", flip(8), addr, timeOfA1, Bad},
		{"other reserved bytes", flip(10), addr, timeOfA1, Bad},
		{"other time", flip(15), addr, timeOfA1, Bad},
		{"other hash", flip(23), addr, timeOfA1, Bad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := s.Check(unhex(t, tc.cookie), tc.addr, tc.now); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// RFC 9018 section 4.3: a cookie is kept for half an hour, in which a client need not learn another.
func TestRenew(t *testing.T) {
	addr := netip.MustParseAddr(clientA)
	reserved := appendWithReserved(secret(t, secretA), addr)
	for _, tc := range []struct {
		name   string
		server *Server
		cookie []byte
		age    int64
		same   bool
	}{
		{"new", NewServer(secret(t, secretA)), unhex(t, cookieA1), 0, true},
		{"half an hour", NewServer(secret(t, secretA)), unhex(t, cookieA1), 1800, true},
		{"older", NewServer(secret(t, secretA)), unhex(t, cookieA1), 1801, false},
		{"a little ahead", NewServer(secret(t, secretA)), unhex(t, cookieA1), -300, true},
		{"secret rolled over", NewServer(secret(t, secretNew), secret(t, secretA)), unhex(t, cookieA1), 0, false},
		{"next secret not yet in use", NewServer(secret(t, secretA), secret(t, secretNew)), unhex(t, cookieA1), 0, true},
		{"reserved bytes set", NewServer(secret(t, secretA)), reserved, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := uint32(timeOfA1 + tc.age)
			got, status := tc.server.Renew(nil, tc.cookie, addr, now)
			if status != Valid {
				t.Fatalf("status %v", status)
			}
			if bytes.Equal(got, tc.cookie) != tc.same {
				t.Errorf("got %x for %x", got, tc.cookie)
			}
			if again := tc.server.Check(got, addr, now); again != Valid {
				t.Errorf("the reply's cookie is %v", again)
			}
		})
	}
}

func appendWithReserved(s Secret, addr netip.Addr) []byte {
	c := appendCookie(nil, newKey(s), []byte("12345678"), addr, timeOfA1)
	c[9] = 7
	hash := newKey(s).hash(c[:16], addr)
	return append(c[:16], hash[:]...)
}

// The seconds wrap in 2106, in the middle of some client's cookie.
func TestTimeWraps(t *testing.T) {
	s, addr := NewServer(Random()), netip.MustParseAddr("2001:db8::1")
	const made = ^uint32(0) - 10
	c := s.Append(nil, []byte("12345678"), addr, made)
	for age, want := range map[uint32]Status{100: Valid, 3600: Valid, 3601: Stale} {
		if got := s.Check(c, addr, made+age); got != want {
			t.Errorf("age %d: %v, want %v", age, got, want)
		}
	}
}

func TestRollOver(t *testing.T) {
	older, newer := secret(t, secretOld), secret(t, secretNew)
	addr := netip.MustParseAddr("192.0.2.7")
	a, b := NewServer(older), NewServer(older)
	step := func(what string) {
		t.Helper()
		for i, from := range []*Server{a, b} {
			for j, to := range []*Server{a, b} {
				c := from.Append(nil, []byte("12345678"), addr, 1000)
				if got := to.Check(c, addr, 1001); got != Valid {
					t.Errorf("%s: a cookie of server %d is %v at server %d", what, i, got, j)
				}
			}
		}
	}
	early := a.Append(nil, []byte("12345678"), addr, 1000)
	step("before")
	a.Set(older, newer)
	step("the first has heard of the new secret")
	b.Set(older, newer)
	step("both have")
	b.Set(newer, older)
	step("the second makes cookies with it")
	a.Set(newer, older)
	step("both do")
	if got := b.Check(early, addr, 1002); got != Valid {
		t.Errorf("a cookie from before is %v", got)
	}
	a.Set(newer)
	b.Set(newer)
	step("after")
	if got := b.Check(early, addr, 1003); got != Bad {
		t.Errorf("a cookie of the removed secret is %v", got)
	}
}

// Readers see the old secrets or the new ones, never half of both.
func TestSetWhileChecking(t *testing.T) {
	x, y := secret(t, secretOld), secret(t, secretNew)
	s, addr := NewServer(x, y), netip.MustParseAddr("192.0.2.7")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 2000 {
				c := s.Append(nil, []byte("12345678"), addr, 1000)
				if got := s.Check(c, addr, 1000); got != Valid {
					t.Errorf("%v", got)
					return
				}
			}
		})
	}
	for range 2000 {
		s.Set(y, x)
		s.Set(x, y)
	}
	wg.Wait()
}

func TestNoAllocation(t *testing.T) {
	s, addr := NewServer(secret(t, secretNew), secret(t, secretA)), netip.MustParseAddr(clientA)
	c, buf := unhex(t, cookieA1), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		buf, _ = s.Renew(buf[:0], c, addr, timeOfA1)
		buf = s.Append(buf[:0], c, addr, timeOfA1)
		if s.Check(c, addr, timeOfA1) != Valid {
			t.Fatal("not valid")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	s := secret(t, secretA)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s)} {
		if strings.Contains(text, "229") || strings.Contains(text, "e5") {
			t.Errorf("written as %s", text)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, c := range []string{"", clientOfA1, cookieA1, cookieA3, cookieA4, strings.Repeat("00", 40)} {
		f.Add(unhex(f, c), uint32(timeOfA1), true)
	}
	s := NewServer(secret(f, secretNew), secret(f, secretA), secret(f, secretOld))
	f.Fuzz(func(t *testing.T, cookie []byte, now uint32, four bool) {
		addr := netip.MustParseAddr(clientA4)
		if four {
			addr = netip.MustParseAddr(clientA)
		}
		status := s.Check(cookie, addr, now)
		reply, again := s.Renew(nil, cookie, addr, now)
		if again != status {
			t.Fatalf("%v, then %v", status, again)
		}
		if status == None || status == Malformed {
			if reply != nil {
				t.Fatalf("%v got a cookie", status)
			}
			return
		}
		if got := s.Check(reply, addr, now); got != Valid || !bytes.Equal(reply[:ClientSize], cookie[:ClientSize]) {
			t.Fatalf("the reply to %x (%v) carries %x, which is %v", cookie, status, reply, got)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	s, addr := NewServer(secret(b, secretA)), netip.MustParseAddr(clientA)
	c := unhex(b, cookieA1)
	b.ReportAllocs()
	for b.Loop() {
		if s.Check(c, addr, timeOfA1) != Valid {
			b.Fatal("not valid")
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	s, addr := NewServer(secret(b, secretA)), netip.MustParseAddr(clientA)
	c, buf := unhex(b, cookieA1), make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = s.Append(buf[:0], c, addr, timeOfA1)
	}
}
