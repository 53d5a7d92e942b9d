package imapd

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/store"
)

// maxKnown is how many messages a folder that is taken over may have.
const maxKnown = 4 << 20

// state is a session that moves from one replica of a LUN to another, as the client knows it.
type state struct {
	Enabled []string     `json:"enabled,omitempty"`
	Folder  *folderState `json:"folder,omitempty"` // that is selected
}

// folderState is a view. Sets are written as in IMAP.
type folderState struct {
	GUID       string   `json:"guid"`
	Name       string   `json:"name"`
	Validity   uint32   `json:"validity"`
	ReadOnly   bool     `json:"read_only,omitempty"`
	Generation uint64   `json:"generation"` // MODSEQ up to which the client has been told everything
	Known      string   `json:"known,omitempty"`
	Keywords   []string `json:"keywords,omitempty"`
	Recent     string   `json:"recent,omitempty"`
	Unclaimed  uint32   `json:"unclaimed"` // first UID that no session has heard of
	Saved      string   `json:"saved,omitempty"`
}

// parseState reads a state. Its folder, if there is one, is not looked for.
func parseState(text []byte) (*state, error) {
	st := &state{}
	if err := json.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("read session's state: %w", err)
	}
	for _, name := range st.Enabled {
		if !isAtom(name) {
			return nil, fmt.Errorf("read session's state: %q cannot be enabled", name)
		}
	}
	if st.Folder == nil {
		return st, nil
	}
	for _, set := range []string{st.Folder.Known, st.Folder.Recent, st.Folder.Saved} {
		if _, err := spans(set); err != nil {
			return nil, fmt.Errorf("read session's state: %w", err)
		}
	}
	return st, nil
}

var errSet = errors.New("imapd: malformed set of UIDs")

// spans reads a set of UIDs, which is in order and has no "*". An empty one is allowed here.
func spans(set string) ([]span, error) {
	if set == "" {
		return nil, nil
	}
	list, ok := parseSet([]byte(set))
	if !ok {
		return nil, errSet
	}
	var last uint32
	total := 0
	for _, r := range list {
		if r.start <= last || r.stop < r.start {
			return nil, errSet
		}
		last = r.stop
		if total += int(r.stop-r.start) + 1; total > maxKnown {
			return nil, errSet
		}
	}
	return list, nil
}

// setText writes a set.
func setText(list []span) string {
	var b []byte
	for _, r := range list {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.start), 10)
		if r.stop != r.start {
			b = strconv.AppendUint(append(b, ':'), uint64(r.stop), 10)
		}
	}
	return string(b)
}

// uidsOf gives the UIDs of messages as ranges.
func uidsOf(messages []*store.Message) []span {
	var list []span
	for _, m := range messages {
		if n := len(list); n > 0 && list[n-1].stop+1 == m.UID {
			list[n-1].stop = m.UID
		} else {
			list = append(list, span{m.UID, m.UID})
		}
	}
	return list
}

// state describes the session for the replica that it moves to.
func (s *session) state() *state {
	st := &state{}
	for c := range s.conn.EnabledCaps() {
		st.Enabled = append(st.Enabled, string(c))
	}
	slices.Sort(st.Enabled)
	if s.view != nil {
		st.Folder = s.view.state()
	}
	return st
}

func (v *view) state() *folderState {
	guid, name := v.folder.Identity()
	unclaimed, _ := v.folder.Recent(false)
	st := &folderState{
		GUID: guid, Name: name, Validity: v.folder.Snapshot().Validity, ReadOnly: v.readOnly, Generation: v.generation,
		Known: setText(uidsOf(v.messages)), Keywords: v.keywords, Recent: setText(v.recent), Unclaimed: unclaimed,
	}
	var saved []span
	for _, r := range v.saved {
		saved = append(saved, span{uint32(r.Start), uint32(r.Stop)})
	}
	st.Saved = setText(saved)
	return st
}

var errElse = no(imap.ResponseCodeUnavailable, "Folder is not what it was")

// restore selects the folder as the client knows it. What has changed since is told at the next opportunity.
func (s *session) restore(st *folderState) error {
	f := s.box.Reopen(st.GUID, st.Name, st.Validity, st.Generation)
	f.Claim(st.Unclaimed)
	snap := f.Snapshot()
	known, err := spans(st.Known)
	if err != nil {
		return err
	}
	if snap.Validity != st.Validity || snap.Generation < st.Generation {
		return errElse
	}
	v := &view{folder: f, readOnly: st.ReadOnly, generation: st.Generation, keywords: st.Keywords}
	if v.recent, err = spans(st.Recent); err != nil {
		return err
	}
	saved, err := spans(st.Saved)
	if err != nil {
		return err
	}
	v.saved = uidSet(saved)
	if v.messages = snap.Messages[:v.knows(known, snap.Messages)]; setText(uidsOf(v.messages)) == st.Known {
		v.shared = true
	} else {
		v.messages = recall(known, snap.Messages)
	}
	for _, m := range v.messages {
		if m.Modseq > st.Generation {
			v.untold = append(v.untold, m.UID)
		}
	}
	s.view = v
	return nil
}

// knows gives how many of the messages come before or with the last one that the client knows.
func (*view) knows(known []span, messages []*store.Message) int {
	if len(known) == 0 {
		return 0
	}
	i, ok := find(messages, known[len(known)-1].stop)
	if ok {
		i++
	}
	return i
}

// recall makes a list of the messages that the client knows. Those that are gone are there with nothing but their UIDs,
// until the client can be told.
func recall(known []span, messages []*store.Message) []*store.Message {
	var list []*store.Message
	for _, r := range known {
		for uid := uint64(r.start); uid <= uint64(r.stop); uid++ {
			if i, ok := find(messages, uint32(uid)); ok {
				list = append(list, messages[i])
			} else {
				list = append(list, &store.Message{UID: uint32(uid)})
			}
		}
	}
	return list
}

// isGone reports whether nothing is known of a message any more, but that the client knows it.
func isGone(m *store.Message) bool { return m.Date.IsZero() }
