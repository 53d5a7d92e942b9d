package bodies

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/mailroles/replica/chain"
)

// said makes the octets of frames: a kind and what it holds, in turn.
func said(frames ...string) []byte {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	for i := 0; i < len(frames); i += 2 {
		if err := writeFrame(w, frames[i][0], []byte(frames[i+1])); err != nil {
			panic(err) // the test is broken
		}
	}
	w.Flush()
	return out.Bytes()
}

const (
	abc    = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	abcTag = `{"mailbox":"a@example.org","name":"m","sum":"` + abc + `","size":3,"date":1}`
)

// seeds are talks that may be well-formed.
var seeds = [][]byte{
	nil, {}, {'t'}, {'t', 0, 0, 0, 0}, {'d', 0xff, 0xff, 0xff, 0xff}, {'d', 0, 1, 0, 1, 'x'},
	said("b", abcTag, "d", "a", "t", "", "d", "bc", "e", ""),
	said("b", abcTag, "d", "abc", "x", "no"),
	said("b", abcTag, "e", ""),
	said("b", abcTag, "b", abcTag),
	said("b", abcTag, "d", "abcd"),
	said("d", "abc", "e", ""),
	said("b", strings.Replace(abcTag, `"size":3`, `"size":-3`, 1), "e", ""),
	said("b", strings.Replace(abcTag, `"size":3`, `"size":9000000`, 1), "d", "abc", "e", ""),
	said("b", strings.Replace(abcTag, `"m"`, `"../m"`, 1), "d", "abc", "e", ""),
	said("b", strings.Replace(abcTag, `a@example.org`, ``, 1), "d", "abc", "e", ""),
	said("g", abcTag, "g", abcTag, "g", `{}`),
	said("n", `{"body":`+abcTag+`,"gone":true}`),
	said("n", `{"body":`+abcTag+`,"why":"disk"}`, "a", abcTag),
	said("a", abcTag, "a", `{}`),
	said("s", `{"state":{"applied":1,"fit":true},"at":5,"echo":1}`, "s", `{"at":-1,"echo":-1}`, "s", `[]`),
	said("q", `{"question":"manifest"}`, "q", `{"question":"digest","arg":"a@example.org"}`, "q", `{"question":"mailboxes"}`, "q", `{}`),
	said("d", `"a@example.org" `, "d", `"ä@example.org"`, "e", `{"index":1,"chain":"`+abc+`","sum":"`+abc+`"}`),
	said("x", "why not"), said("e", ""), said("e", "{"), said("z", ""),
}

// FuzzFrame has frames that are read be those that were written.
func FuzzFrame(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, buf := bufio.NewReader(bytes.NewReader(data)), make([]byte, maxFrame)
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		for {
			kind, payload, err := readFrame(r, buf)
			if err != nil {
				break
			}
			if err := writeFrame(w, kind, payload); err != nil {
				t.Fatal(err)
			}
			if b, err := parseBody(payload); err == nil && (strings.Contains(b.Mailbox+b.Name, "/") || b.Size < 0 || len(b.Sum) != 64) {
				t.Fatalf("body %+v", b)
			}
		}
		w.Flush()
		if !bytes.HasPrefix(data, out.Bytes()) {
			t.Fatalf("%q read as %q", data, out.Bytes())
		}
	})
}

// fuzzStore has a body and takes what has the right sum, in memory.
type fuzzStore struct {
	t    *testing.T
	file string
}

func (s fuzzStore) TakeBody(b Body, r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(content)) != b.Size {
		s.t.Errorf("body %+v was given as whole with %d octets", b, len(content))
	}
	if bodyOf(b.Name, content).Sum != b.Sum {
		return errRotten
	}
	return nil
}

func (s fuzzStore) HasBody(Body) bool                  { return false }
func (s fuzzStore) OpenBody(Body) (*os.File, error)    { return os.Open(s.file) }
func (s fuzzStore) Missing(int) ([]Body, int)          { return nil, 0 }
func (s fuzzStore) Mailboxes() []string                { return []string{"a@example.org"} }
func (s fuzzStore) Digest(string) (uint64, sum, error) { return 1, sum{}, nil }
func (s fuzzStore) WriteManifest(w io.Writer) (chain.Position, error) {
	_, err := io.WriteString(w, "{}\n")
	return chain.Position{}, err
}

type sum = chain.Sum

// FuzzTalk has each side of each kind of connection hear anything: it ends, and what it believes is in order.
func FuzzTalk(f *testing.F) {
	for _, seed := range seeds {
		for side := range uint8(5) {
			f.Add(side, seed)
		}
	}
	file := f.TempDir() + "/abc"
	if err := os.WriteFile(file, []byte("abc"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, side uint8, data []byte) {
		here, there := net.Pipe()
		var other sync.WaitGroup
		other.Go(func() { io.Copy(io.Discard, there) })
		other.Go(func() {
			there.SetWriteDeadline(time.Now().Add(5 * time.Second))
			there.Write(data)
			there.Close()
		})
		defer other.Wait()
		opt := Options{Self: Peer{Name: "a"}, Peers: []Peer{{Name: "b"}}, Store: fuzzStore{t, file}}
		opt.Times.Timeout = 10 * time.Second
		talk(t, side, opt, newStream(here, opt.complete().Times))
	})
}

// talk has one side of a protocol hear what comes over a connection, until it ends.
func talk(t *testing.T, side uint8, opt Options, s *stream) {
	abcBody := Body{Mailbox: "a@example.org", Name: "m", Sum: abc, Size: 3, Date: 1}
	ctx := t.Context()
	switch side % 5 {
	case 0:
		NewReceiver(opt, func(b Body) {
			if b.Size < 0 || !isName(b.Name) {
				t.Errorf("took %+v", b)
			}
		}).serve(ctx, s)
	case 1:
		sender := NewSender(opt)
		sender.Push(abcBody)
		sender.lanes[0].talk(ctx, s)
	case 2:
		e := NewExchange(opt, func() State { return State{} })
		e.talk(ctx, s, e.peers["b"])
	case 3:
		x := &errand{
			peer: "b", list: []Body{abcBody}, asked: make(chan Body, window), results: map[Body]error{}, got: func(Body) {},
		}
		free := func(context.Context, Body) error { return nil }
		err := s.run(ctx,
			func(ctx context.Context) error { return x.ask(ctx, s, free) },
			func(ctx context.Context) error {
				return x.hear(ctx, s, newIntake(ctx, opt.Store, make(chan struct{}, 1)))
			},
		)
		got := x.outcomes(errors.Join(err, errEnded))
		if len(got) != 1 || got[0].body != abcBody {
			t.Errorf("outcomes %v", got)
		}
	default:
		if err := NewDesk(opt, nil).serve(ctx, s); err == nil && t.Context().Err() == nil {
			t.Error("a desk ended without an error")
		}
	}
}

// FuzzAnswer has a caller hear anything.
func FuzzAnswer(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		here, there := net.Pipe()
		var other sync.WaitGroup
		other.Go(func() {
			there.SetWriteDeadline(time.Now().Add(5 * time.Second))
			there.Write(data)
			there.Close()
		})
		defer other.Wait()
		defer here.Close()
		var text bytes.Buffer
		var result manifestResult
		if err := newStream(here, Times{Timeout: 10 * time.Second}).hearAnswer(&text, &result); err != nil {
			return
		}
		if _, err := parseSum(result.Chain); err != nil && !errors.Is(err, errProtocol) {
			t.Error(err)
		}
		var list []string
		if err := readMailboxes(&text, &list); err == nil {
			for _, m := range list {
				if !isName(m) {
					t.Errorf("mailbox %q", m)
				}
			}
		}
	})
}
