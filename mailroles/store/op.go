package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"anycastle/mailroles/maildir"
)

// kind says what an operation does.
type kind string

const (
	opCreate    kind = "create"    // a folder, or a mailbox with its INBOX
	opRename    kind = "rename"    // a folder and those below it
	opDelete    kind = "delete"    // a folder with its messages
	opSubscribe kind = "subscribe" // or the contrary
	opDeliver   kind = "deliver"   // mail that came
	opAppend    kind = "append"    // a message that a client put there
	opAdopt     kind = "adopt"     // files that somebody else put there
	opFlags     kind = "flags"
	opExpunge   kind = "expunge"
	opCopy      kind = "copy"
	opMove      kind = "move"
	opRestore   kind = "restore"  // messages of a snapshot, with the UIDs that the operation gives
	opQueue     kind = "queue"    // of the LUN's queue, and of no mailbox
	opSnapshot  kind = "snapshot" // of the whole LUN
)

// op is one operation: everything that a replica needs to come to the same state, whatever its clock says and whatever
// its files are called. Its index in the log is the MODSEQ (RFC 7162) of what it changes.
type op struct {
	Kind     kind               `json:"kind"`
	At       int64              `json:"at"` // Unix time
	Mailbox  string             `json:"mailbox"`
	Folder   string             `json:"folder,omitempty"`   // GUID
	To       string             `json:"to,omitempty"`       // GUID of the folder that copies and moves go to
	Name     string             `json:"name,omitempty"`     // of a folder that is made or subscribed to
	Off      bool               `json:"off,omitempty"`      // end a subscription
	Validity uint32             `json:"validity,omitempty"` // UIDVALIDITY of a folder that is made
	Next     uint32             `json:"next,omitempty"`     // UIDNEXT at least of a folder that is made, as it had been there
	Renames  []renaming         `json:"renames,omitempty"`
	Arrivals []arrival          `json:"arrivals,omitempty"`
	Markings []marking          `json:"markings,omitempty"`
	Gone     []maildir.UIDEntry `json:"gone,omitempty"` // from Folder
	Queue    *queueOp           `json:"queue,omitempty"`
	Snapshot *snapshotOp        `json:"snapshot,omitempty"`

	proofs []Body // what must be proven of a copy, at the replica that proposes it
}

// renaming gives a folder another name.
type renaming struct {
	Folder string `json:"folder"` // GUID
	Name   string `json:"name"`
}

// arrival is a message that comes into a folder.
type arrival struct {
	UID      uint32        `json:"uid"`
	From     uint32        `json:"from,omitempty"` // UID in Folder of what is copied or moved
	Base     string        `json:"base"`
	Flags    maildir.Flags `json:"flags,omitempty"`
	Keywords []string      `json:"keywords,omitempty"`
	Size     int64         `json:"size"`
	Wide     int64         `json:"wide"`          // size with CRLF line ends
	Date     int64         `json:"date"`          // Unix time
	Sum      string        `json:"sum,omitempty"` // SHA-256 of the body, in hexadecimal; empty when it is not known
}

// marking gives the same marks to messages.
type marking struct {
	UIDs     []uint32      `json:"uids"`
	Flags    maildir.Flags `json:"flags,omitempty"`
	Keywords []string      `json:"keywords,omitempty"`
}

// errOp says that a record is no operation.
var errOp = errors.New("store: no operation")

func (o *op) encode() ([]byte, error) {
	record, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write operation: %w", err)
	}
	return record, nil
}

func decodeOp(record []byte) (*op, error) {
	o := &op{}
	if err := json.Unmarshal(record, o); err != nil {
		return nil, fmt.Errorf("%w: %w", errOp, err)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%w: %s of %q: %w", errOp, o.Kind, o.Mailbox, err)
	}
	return o, nil
}

// check refuses what would lead out of the mailbox's directory, or to a state that a Maildir cannot have.
func (o *op) check() error {
	switch {
	case o.Kind == opQueue && o.Queue != nil:
		return o.Queue.check()
	case o.Kind == opSnapshot && o.Snapshot != nil:
		return o.Snapshot.check()
	case !plainName(o.Mailbox):
		return errors.New("no mailbox")
	}
	switch o.Kind {
	case opCreate, opDelete, opDeliver, opAppend, opAdopt, opFlags, opExpunge, opCopy, opMove, opRestore:
		if !isGUID(o.Folder) || (o.Kind == opCopy || o.Kind == opMove) != isGUID(o.To) {
			return errors.New("no folder")
		}
	case opRename, opSubscribe:
	default:
		return errors.New("unknown kind")
	}
	if o.Kind == opCreate || o.Kind == opSubscribe {
		if _, err := maildir.FolderDir(o.Name); err != nil {
			return err
		}
	}
	if o.Kind == opCreate && o.Validity == 0 {
		return errors.New("no UIDVALIDITY")
	}
	for _, r := range o.Renames {
		if dir, err := maildir.FolderDir(r.Name); err != nil || dir == "" || !isGUID(r.Folder) {
			return fmt.Errorf("rename to %q", r.Name)
		}
	}
	return o.checkMessages()
}

func (o *op) checkMessages() error {
	for _, a := range o.Arrivals {
		n, ok := maildir.ParseName(a.Base)
		ok = ok && n.Base == a.Base && maildir.Readable(a.Base) && plainName(a.Base) && goodUID(a.UID)
		if !ok || a.Size < 0 || a.Wide < a.Size {
			return fmt.Errorf("message %d %q", a.UID, a.Base)
		}
		if a.Sum != "" && !isSum(a.Sum) {
			return fmt.Errorf("message %d of sum %q", a.UID, a.Sum)
		}
		if err := checkKeywords(a.Keywords); err != nil {
			return err
		}
	}
	for _, m := range o.Markings {
		if err := checkKeywords(m.Keywords); err != nil {
			return err
		}
	}
	return nil
}

func checkKeywords(list []string) error {
	for _, k := range list {
		if err := maildir.CheckKeyword(k); err != nil {
			return err
		}
	}
	return nil
}

func goodUID(uid uint32) bool { return uid > 0 && uid < 1<<32-1 }

// isGUID reports whether s is a folder's id, 32 hexadecimal digits.
func isGUID(s string) bool { return len(s) == 32 && isHex(s) }

// isSum reports whether s is a SHA-256, 64 hexadecimal digits.
func isSum(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
