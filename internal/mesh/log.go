package mesh

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	maxNotes  = 256            // kinds of events that are told apart
	noteEvery = time.Minute    // how often one kind is logged
	noteFor   = 24 * time.Hour // how long a kind is remembered when there are many
	once      = time.Duration(1<<63 - 1)
)

// notes says which of events that may come with every packet are logged.
type notes struct {
	max int // kinds; 0: maxNotes

	mu   sync.Mutex
	last map[string]note
}

type note struct {
	at      time.Time
	skipped int // since then
}

// due says whether an event of the kind is to be logged now, and how many were not since the last one that was. When too
// many kinds are known, a new one is not: events of so many kinds have one cause.
func (n *notes) due(kind string, every time.Duration, now time.Time) (skipped int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last, known := n.last[kind]
	if known && now.Sub(last.at) < every {
		last.skipped++
		n.last[kind] = last
		return 0, false
	}
	if !known && !n.room(now) {
		return 0, false
	}
	if n.last == nil {
		n.last = map[string]note{}
	}
	n.last[kind] = note{at: now}
	return last.skipped, true
}

// room says whether one more kind can be remembered. mu is held.
func (n *notes) room(now time.Time) bool {
	most := cmp.Or(n.max, maxNotes)
	if len(n.last) >= most {
		maps.DeleteFunc(n.last, func(_ string, last note) bool { return now.Sub(last.at) > noteFor })
	}
	return len(n.last) < most
}

// forget makes the next event of the kind be logged.
func (n *notes) forget(kind string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.last, kind)
}

// mlWriter is where memberlist's log lines go: to slog at their level, each kind at most once a minute. What is an error
// to memberlist, such as a ping that cannot be sent, is a warning here: this member goes on. Lines that tell of a peer
// that is not one of ours are counted, and told once a peer.
type mlWriter struct {
	log     *slog.Logger
	notes   *notes
	strange *notes
	reject  func(reason string)
}

const anotherKey = "a peer has another mesh key: give every member the same"

// What memberlist says of a peer with another key, with none, and of another group. The tests see to it that it still
// does after an upgrade.
var (
	saysKey   = []string{"Decrypt packet failed", "no installed keys could decrypt", "remote state is not encrypted"}
	saysGroup = []string{"unacceptable label"}
)

// Write takes one line, such as "[WARN] memberlist: what happened: more of it from=192.0.2.1:7946".
func (w mlWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level, text := cutLevel(text)
	text = strings.TrimPrefix(text, "memberlist: ")
	switch {
	case containsAny(text, saysKey):
		w.stranger(text, reasonKey, anotherKey)
	case containsAny(text, saysGroup):
		w.stranger(text, reasonGroup, "a peer is of another mesh: take its address out of join, or give the meshes keys of their own")
	case w.log.Enabled(context.Background(), level):
		kind, _, _ := strings.Cut(text, ":")
		if skipped, ok := w.notes.due(kind, noteEvery, time.Now()); ok {
			w.log.Log(context.Background(), level, "memberlist says", "text", text, "skipped", skipped)
		}
	}
	return len(line), nil
}

// stranger counts a message from one who is not of this mesh, and logs the first of each peer. The lines that do not say
// whom they are about come with others that do.
func (w mlWriter) stranger(text, reason, what string) {
	_, from, ok := strings.Cut(text, "from=")
	if !ok {
		return
	}
	w.reject(reason)
	if peer, err := netip.ParseAddrPort(from); err == nil {
		w.strange.stranger(w.log, reason, what, peer.Addr())
	}
}

func (n *notes) stranger(log *slog.Logger, reason, what string, peer netip.Addr) {
	if _, ok := n.due(reason+" "+peer.String(), once, time.Now()); ok {
		log.Warn(what, "peer", peer)
	}
}

func containsAny(text string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// cutLevel takes the level off a line of memberlist's.
func cutLevel(line string) (slog.Level, string) {
	for _, l := range []struct {
		tag   string
		level slog.Level
	}{
		{"[DEBUG] ", slog.LevelDebug}, {"[INFO] ", slog.LevelInfo}, {"[WARN] ", slog.LevelWarn},
		{"[ERR] ", slog.LevelWarn}, {"[ERROR] ", slog.LevelWarn},
	} {
		if text, ok := strings.CutPrefix(line, l.tag); ok {
			return l.level, text
		}
	}
	return slog.LevelInfo, line
}
