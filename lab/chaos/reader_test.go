package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// reader works in a mailbox, alone: it uploads, flags, moves, copies and expunges. Senders deliver there meanwhile.
type reader struct {
	*load
	mailbox string
	rnd     *rand.Rand
	home    int // the front end that it prefers

	conn     *imapConn
	folder   string // that is selected
	validity uint32
	messages map[uint32]string // Message-IDs by UID, of the folder
	next     uint32            // the first UID that it has not seen
}

const (
	archive  = "Old"
	crowded  = 80 // messages in a folder from which on they are expunged rather than anything else
	redial   = 300 * time.Millisecond
	loginFor = 5 * time.Second
)

// run works until ctx ends.
func (r *reader) run(ctx context.Context) {
	for try := 0; ctx.Err() == nil; try++ {
		if err := r.connect(r.imap[(r.home+try)%len(r.imap)]); err != nil {
			if !rest(ctx, redial, r.rnd) {
				return
			}
			continue
		}
		try = -1 // the next time at home again
		for rest(ctx, r.pause, r.rnd) {
			if err := r.step(); err != nil {
				break
			}
		}
		r.conn.close()
	}
}

// connect logs in and opens a folder.
func (r *reader) connect(address string) (err error) {
	if r.conn, err = dialIMAP(r.from, address, r.mailbox, loginFor); err != nil {
		return err
	}
	if _, err = r.conn.do("CREATE %s", archive); err != nil {
		if no, ok := err.(*refusal); ok && strings.Contains(no.said, "ALREADYEXISTS") {
			err = nil
		}
	}
	if err == nil {
		err = r.open("INBOX")
	}
	if err != nil {
		r.conn.close()
	}
	return err
}

// open selects a folder and reads all of it. What was acknowledged before must be there.
func (r *reader) open(folder string) error {
	expected := r.h.Present(r.mailbox, folder)
	validity, err := r.conn.selectFolder(folder)
	if err != nil {
		return err
	}
	r.folder, r.validity, r.messages, r.next = folder, validity, map[uint32]string{}, 1
	flags, err := r.poll()
	if err != nil {
		return err
	}
	for id, want := range expected {
		if got, ok := flags[id]; !ok || got != want {
			r.mu.Lock()
			r.stale = append(r.stale, fmt.Sprintf("%s %s %s: shown %q (%v), acknowledged %q", r.mailbox, folder, id, got, ok, want))
			r.mu.Unlock()
		}
	}
	return nil
}

// poll reads what is new, and gives its flags by Message-ID.
func (r *reader) poll() (flags map[string]string, err error) {
	list, err := r.conn.list(r.next)
	if err != nil {
		return nil, err
	}
	flags = map[string]string{}
	for _, m := range list {
		r.h.Saw(r.mailbox, r.folder, Place{r.validity, m.uid}, m.id)
		r.messages[m.uid], flags[m.id] = m.id, m.flags
		r.next = max(r.next, m.uid+1)
	}
	return flags, nil
}

// step does one thing. An error ends the session.
func (r *reader) step() error {
	uid, id, flags, ok := r.pick()
	switch dice := r.rnd.IntN(100); {
	case dice < 5:
		return r.open(map[string]string{"INBOX": archive, archive: "INBOX"}[r.folder])
	case dice < 15 || !ok:
		if r.rnd.IntN(3) == 0 {
			return r.upload()
		}
		_, err := r.poll()
		return err
	case dice < 25:
		return r.upload()
	case len(r.messages) > crowded && dice < 80, dice < 35:
		return r.expunge(uid, id, flags)
	case dice < 75:
		_, err := r.flag(uid, id, flags, []string{`\Flagged`, `\Answered`, `\Seen`, "$Done"}[r.rnd.IntN(4)])
		return err
	case dice < 88:
		return r.transfer(Move, uid, id)
	default:
		return r.transfer(Copy, uid, id)
	}
}

// pick gives a message whose state is known.
func (r *reader) pick() (uid uint32, id, flags string, ok bool) {
	if len(r.messages) == 0 {
		return 0, "", "", false
	}
	uids := slices.Sorted(maps.Keys(r.messages))
	for range 10 {
		uid = uids[r.rnd.IntN(len(uids))]
		id = r.messages[uid]
		if flags, ok = r.h.Settled(r.mailbox, r.folder, id); ok {
			return uid, id, flags, true
		}
	}
	return 0, "", "", false
}

// did records how an operation ended, and gives the error that ends the session. A refusal does not.
func (r *reader) did(end func(Outcome, Place, string), at Place, err error) (Outcome, error) {
	out, said := outcome(err)
	end(out, at, said)
	if out == Refused {
		r.refuse(said)
	}
	if _, refused := err.(*refusal); refused {
		return out, nil
	}
	return out, err
}

func (r *reader) upload() error {
	id, text := r.message(stranger, r.mailbox, r.rnd)
	flags := []string{"", `\Seen`, `$Done \Flagged`}[r.rnd.IntN(3)]
	end := r.h.Begin(Op{Kind: Append, Mailbox: r.mailbox, Folder: r.folder, ID: id, Flags: flags})
	answer, err := r.conn.send(fmt.Sprintf("APPEND %s (%s)", r.folder, flags), text)
	at := placeOf(appendForm, answer)
	out, err := r.did(end, at, err)
	if out == Acknowledged {
		r.messages[at.UID] = id
	}
	return err
}

// flag sets a flag, or clears it if it is set.
func (r *reader) flag(uid uint32, id, flags, name string) (Outcome, error) {
	list, sign := strings.Fields(flags), "+"
	if i := slices.Index(list, name); i >= 0 {
		list, sign = slices.Delete(list, i, i+1), "-"
	} else {
		list = append(list, name)
	}
	end := r.h.Begin(Op{Kind: Flags, Mailbox: r.mailbox, Folder: r.folder, ID: id, Flags: JoinFlags(list)})
	_, err := r.conn.do("UID STORE %d %sFLAGS (%s)", uid, sign, name)
	return r.did(end, Place{r.validity, uid}, err)
}

func (r *reader) expunge(uid uint32, id, flags string) error {
	if !slices.Contains(strings.Fields(flags), `\Deleted`) {
		if out, err := r.flag(uid, id, flags, `\Deleted`); err != nil || out != Acknowledged {
			return err
		}
	}
	end := r.h.Begin(Op{Kind: Expunge, Mailbox: r.mailbox, Folder: r.folder, ID: id})
	_, err := r.conn.do("UID EXPUNGE %d", uid)
	out, err := r.did(end, Place{}, err)
	if out != Refused {
		delete(r.messages, uid)
	}
	return err
}

// transfer moves or copies a message to the other folder, unless it is there already.
func (r *reader) transfer(kind Kind, uid uint32, id string) error {
	to := archive
	if r.folder == archive {
		to = "INBOX"
	}
	if !r.h.Absent(r.mailbox, to, id) {
		return nil
	}
	end := r.h.Begin(Op{Kind: kind, Mailbox: r.mailbox, Folder: r.folder, To: to, ID: id})
	answer, err := r.conn.do("UID %s %d %s", strings.ToUpper(string(kind)), uid, to)
	out, err := r.did(end, placeOf(copyForm, answer), err)
	if kind == Move && out != Refused {
		delete(r.messages, uid)
	}
	return err
}

// collect looks into all mailboxes until what was submitted has arrived, and gives how much has not.
func (l *load) collect(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	rnd := rand.New(rand.NewPCG(1, 5))
	for l.h.Awaited() > 0 && rest(ctx, redial, rnd) {
		for n, mailbox := range l.mailboxes {
			r := &reader{load: l, mailbox: mailbox, rnd: rnd}
			if err := r.connect(l.imap[n%len(l.imap)]); err == nil {
				_ = r.open(archive) // what cannot be looked at now is looked at in the next round
				r.conn.close()
			}
		}
	}
	return l.h.Awaited()
}
