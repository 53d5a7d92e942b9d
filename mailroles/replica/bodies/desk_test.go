package bodies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/replica/chain"
)

func TestQuestions(t *testing.T) {
	list := newReplicas(t, "east", "west")
	asked := make(chan struct{})
	given := make(chan error, 1)
	list[1].run(NewDesk(list[1].opt, map[string]Answer{
		"echo": func(_ context.Context, from string, arg []byte, w io.Writer) (any, error) {
			var text string
			if err := json.Unmarshal(arg, &text); err != nil {
				return nil, err
			}
			for range 1000 {
				if _, err := io.WriteString(w, text); err != nil {
					return nil, err
				}
			}
			return from, nil
		},
		"fail": func(context.Context, string, []byte, io.Writer) (any, error) { return nil, errors.New("disk full") },
		"wait": func(ctx context.Context, _ string, _ []byte, _ io.Writer) (any, error) {
			close(asked)
			<-ctx.Done()
			given <- ctx.Err()
			return nil, ctx.Err()
		},
		"huge": func(context.Context, string, []byte, io.Writer) (any, error) {
			return strings.Repeat("x", maxFrame), nil
		},
	}).Run)
	c := NewCaller(list[0].opt)
	var text bytes.Buffer
	var from string
	if err := c.Ask(t.Context(), "b", "echo", "häh\n", &text, &from); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("häh\n", 1000); text.String() != want || from != "a" {
		t.Errorf("answer %d octets, want %d; from %q", text.Len(), len(want), from)
	}
	for question, want := range map[string]string{"fail": "disk full", "none": "nobody here answers", "huge": "result of"} {
		if err := c.Ask(t.Context(), "b", question, nil, nil, nil); !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", question, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asker sync.WaitGroup
	asker.Go(func() {
		<-asked
		cancel()
	})
	defer asker.Wait()
	if err := c.Ask(ctx, "b", "wait", nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	select {
	case <-given:
	case <-time.After(10 * time.Second):
		t.Error("the desk goes on with an answer that nobody waits for")
	}
}

// TestAnswerThatTakesLong takes longer than the timeout; the member is there.
func TestAnswerThatTakesLong(t *testing.T) {
	list := newReplicas(t, "east", "west")
	list[0].opt.Times.Timeout, list[1].opt.Times.Timeout = 200*time.Millisecond, 200*time.Millisecond
	list[1].run(NewDesk(list[1].opt, map[string]Answer{
		"slow": func(ctx context.Context, _ string, _ []byte, _ io.Writer) (any, error) {
			pause(ctx, 600*time.Millisecond)
			return nil, ctx.Err()
		},
	}).Run)
	c := NewCaller(list[0].opt)
	if err := c.Ask(t.Context(), "b", "slow", nil, nil, nil); err != nil {
		t.Error(err)
	}
	list[1].relay.freeze()
	began := time.Now()
	if err := c.Ask(t.Context(), "b", "slow", nil, nil, nil); err == nil || time.Since(began) > 3*quick.Timeout {
		t.Errorf("asked a silent member: %v after %s", err, time.Since(began))
	}
}

func TestStoreQuestions(t *testing.T) {
	list := newReplicas(t, "east", "west")
	list[1].opt.Spool = t.TempDir()
	list[1].store.manifest = strings.Repeat("{\"mailbox\":\"a@example.org\"}\n", 100_000)
	list[1].run(NewDesk(list[1].opt, nil).Run)
	c := NewCaller(list[0].opt)
	f, pos, err := c.Manifest(t.Context(), "b", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil || string(text) != list[1].store.manifest {
		t.Errorf("manifest of %d octets, want %d: %v", len(text), len(list[1].store.manifest), err)
	}
	if diff := cmp.Diff(chain.Position{Index: 42, Chain: chain.Sum{1, 2, 3}}, pos); diff != "" {
		t.Error(diff)
	}
	boxes, err := c.Mailboxes(t.Context(), "b")
	if diff := cmp.Diff(list[1].store.Mailboxes(), boxes); diff != "" || err != nil {
		t.Error(diff, err)
	}
	digest, err := c.Digest(t.Context(), "b", "a@example.org")
	if diff := cmp.Diff(Digest{Changed: 7, Sum: chain.Sum{9}}, digest); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"other@example.org", "../a", ""} {
		if _, err := c.Digest(t.Context(), "b", bad); !errors.Is(err, ErrAnswer) {
			t.Errorf("digest of %q: %v", bad, err)
		}
	}
}

// TestManifestThatBreaksOff has half of one not be taken for a whole.
func TestManifestThatBreaksOff(t *testing.T) {
	list := newReplicas(t, "east", "west")
	list[1].run(NewDesk(list[1].opt, map[string]Answer{
		"manifest": func(_ context.Context, _ string, _ []byte, w io.Writer) (any, error) {
			io.WriteString(w, "half")
			return manifestResult{Index: 1, Chain: chain.Sum{}.String(), Sum: chain.Sum{}.String()}, nil
		},
		"mailboxes": func(_ context.Context, _ string, _ []byte, w io.Writer) (any, error) {
			return io.WriteString(w, `"a@example.org" "../b"`)
		},
	}).Run)
	c := NewCaller(list[0].opt)
	if _, _, err := c.Manifest(t.Context(), "b", t.TempDir()); !errors.Is(err, errProtocol) {
		t.Errorf("manifest with a wrong sum: %v", err)
	}
	if boxes, err := c.Mailboxes(t.Context(), "b"); !errors.Is(err, errProtocol) {
		t.Errorf("mailboxes %v: %v", boxes, err)
	}
}

func TestWitnessAnswersWithoutStore(t *testing.T) {
	list := newReplicas(t, "east", "third")
	opt := list[1].opt
	opt.Store = nil
	list[1].run(NewDesk(opt, nil).Run)
	c := NewCaller(list[0].opt)
	if _, err := c.Mailboxes(t.Context(), "b"); !errors.Is(err, ErrAnswer) {
		t.Errorf("mailboxes of a witness: %v", err)
	}
	if err := c.Ask(t.Context(), "b", "manifest", nil, nil, nil); !errors.Is(err, ErrAnswer) {
		t.Errorf("manifest of a witness: %v", err)
	}
}
