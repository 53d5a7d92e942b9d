package directory

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/config"
	"anycastle/internal/wholefile"
)

// Errors of Edit that are the caller's.
var (
	ErrNoEntry = errors.New("no mailbox, alias or group of this address is in the file")
	ErrThere   = errors.New("is in the file already")
)

// Edit changes a mailboxes file. It is what a Change's caller gets.
type Edit struct {
	file   File
	editor *config.Editor
}

// Read gives what a mailboxes file says, without its being checked.
func Read(path string) (File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	e, err := newEdit(path, text)
	if err != nil {
		return File{}, err
	}
	return e.file, nil
}

// Change has fn change a mailboxes file, which is made when there is none. One process at a time does. All lines that need
// not change stay as they are; nothing changes when fn fails, or when the file would be wrong afterwards. When it returns nil
// the disk has the new file, with the owner and mode of the old. Without luns every LUN is right.
func Change(ctx context.Context, path string, luns []string, fn func(*Edit) error) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	unlock, err := lockBeside(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	text, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	e, err := newEdit(path, text)
	if err != nil {
		return err
	}
	if err := fn(e); err != nil {
		return err
	}
	changed := e.editor.Text()
	if _, err := parseTable(path, changed, luns); err != nil {
		return fmt.Errorf("the file is not changed, since it would be wrong: %w", err)
	}
	if after, err := newEdit(path, changed); err != nil || !after.file.equal(e.file) {
		return errors.Join(fmt.Errorf("%s is %w", path, config.ErrLayout), err)
	}
	if missing {
		return wholefile.PutDurably(path, changed)
	}
	return wholefile.PutDurablyLike(path, changed)
}

// lockBeside waits until no other process changes a file of the directory. The directory itself carries the lock: the file is
// replaced by a change.
func lockBeside(ctx context.Context, path string) (unlock func() error, err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return dir.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir.Name(), err), dir.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("somebody else changes a file in %s: %w", dir.Name(), ctx.Err()), dir.Close())
		case <-tick.C:
		}
	}
}

func newEdit(name string, text []byte) (*Edit, error) {
	editor, err := config.NewEditor(text)
	if err != nil {
		return nil, fmt.Errorf("%s is %w", name, err)
	}
	e := &Edit{editor: editor}
	if editor.Empty() {
		return e, nil
	}
	doc, err := config.ParseUpTo(name, text, maxFile)
	if err != nil {
		return nil, err
	}
	b := builder{table: &table{}}
	e.file = b.decode(doc)
	return e, doc.Err()
}

// equal compares what two files say.
func (f File) equal(o File) bool {
	return f.Seed == o.Seed &&
		slices.EqualFunc(f.Mailboxes, o.Mailboxes, func(a, b FileMailbox) bool { return reflect.DeepEqual(a, b) }) &&
		slices.EqualFunc(f.Aliases, o.Aliases, func(a, b FileAlias) bool { return reflect.DeepEqual(a, b) }) &&
		slices.EqualFunc(f.Groups, o.Groups, func(a, b FileGroup) bool { return reflect.DeepEqual(a, b) })
}

// find gives the section and the index of the entry with an address; its form does not count.
func (e *Edit) find(address string) (section string, i int) {
	normal, ok := Normalize(address)
	if !ok {
		return "", -1
	}
	is := func(other string) bool {
		o, ok := Normalize(other)
		return ok && o == normal
	}
	if i := slices.IndexFunc(e.file.Mailboxes, func(m FileMailbox) bool { return is(m.Address) }); i >= 0 {
		return "mailboxes", i
	}
	if i := slices.IndexFunc(e.file.Aliases, func(a FileAlias) bool { return is(a.Address) }); i >= 0 {
		return "aliases", i
	}
	if i := slices.IndexFunc(e.file.Groups, func(g FileGroup) bool { return is(g.Address) }); i >= 0 {
		return "groups", i
	}
	return "", -1
}

// free gives the normal form of an address that is not in the file.
func (e *Edit) free(address string) (string, error) {
	normal, ok := Normalize(address)
	if !ok {
		return "", fmt.Errorf("%q is no mailbox address; write one such as alice@example.org", address)
	}
	if section, _ := e.find(normal); section != "" {
		return "", fmt.Errorf("%s %w", normal, ErrThere)
	}
	return normal, nil
}

// AddMailbox adds a mailbox with a password. Of m, Password and SCRAM are not looked at.
func (e *Edit) AddMailbox(m FileMailbox, password string) (err error) {
	if m.Address, err = e.free(m.Address); err != nil {
		return err
	}
	if m.Password, m.SCRAM, err = secrets(password); err != nil {
		return err
	}
	fields := []config.Field{
		{Key: "address", Value: m.Address}, {Key: "password", Value: m.Password}, {Key: "scram", Value: m.SCRAM},
		{Key: "lun", Value: m.LUN},
	}
	var quota []config.Field
	if m.Quota.Size != 0 {
		quota = append(quota, config.Field{Key: "size", Value: m.Quota.Size.String()})
	}
	if m.Quota.Messages != 0 {
		quota = append(quota, config.Field{Key: "messages", Value: fmt.Sprint(m.Quota.Messages)})
	}
	if len(quota) > 0 {
		fields = append(fields, config.Field{Key: "quota", Value: quota})
	}
	if len(m.SendAs) > 0 {
		fields = append(fields, config.Field{Key: "send_as", Value: m.SendAs})
	}
	e.file.Mailboxes = append(e.file.Mailboxes, m)
	return errors.Join(e.editor.Append("mailboxes", fields), e.addSeed())
}

// addSeed adds what fake keys are made of, to a file that has none.
func (e *Edit) addSeed() error {
	if e.file.Seed != "" {
		return nil
	}
	seed := make([]byte, 24)
	if _, err := rand.Read(seed); err != nil {
		return fmt.Errorf("make seed: %w", err)
	}
	e.file.Seed = base64.StdEncoding.EncodeToString(seed)
	return e.editor.AddText("seed", e.file.Seed)
}

// secrets makes what is kept of a password.
func secrets(password string) (hash, scram string, err error) {
	if len(password) > maxPasswordLen {
		return "", "", fmt.Errorf("the password has more than %d bytes", maxPasswordLen)
	}
	keys, err := MakeKeys(password)
	if err != nil {
		return "", "", err
	}
	hash, err = HashPassword(password)
	return hash, keys.text(), err
}

// mailbox finds the index of a mailbox.
func (e *Edit) mailbox(address string) (int, error) {
	section, i := e.find(address)
	switch section {
	case "mailboxes":
		return i, nil
	case "":
		return 0, fmt.Errorf("%s: %w", address, ErrNoEntry)
	}
	return 0, fmt.Errorf("%s is no mailbox; it stands in %s", address, section)
}

// SetPassword gives a mailbox another password.
func (e *Edit) SetPassword(address, password string) error {
	i, err := e.mailbox(address)
	if err != nil {
		return err
	}
	m := &e.file.Mailboxes[i]
	if m.Password, m.SCRAM, err = secrets(password); err != nil {
		return err
	}
	return errors.Join(
		e.editor.Set("mailboxes", i, "password", m.Password), e.editor.Set("mailboxes", i, "scram", m.SCRAM), e.addSeed())
}

// Disable keeps the user of a mailbox from logging in, or lets it again.
func (e *Edit) Disable(address string, on bool) error {
	i, err := e.mailbox(address)
	if err != nil {
		return err
	}
	e.file.Mailboxes[i].Disabled = on
	return e.editor.Set("mailboxes", i, "disabled", fmt.Sprint(on))
}

// AddAlias adds an alias.
func (e *Edit) AddAlias(a FileAlias) (err error) {
	if a.Address, err = e.free(a.Address); err != nil {
		return err
	}
	e.file.Aliases = append(e.file.Aliases, a)
	return e.editor.Append("aliases", []config.Field{{Key: "address", Value: a.Address}, {Key: "to", Value: a.To}})
}

// AddGroup adds a group.
func (e *Edit) AddGroup(g FileGroup) (err error) {
	if g.Address, err = e.free(g.Address); err != nil {
		return err
	}
	e.file.Groups = append(e.file.Groups, g)
	return e.editor.Append("groups", []config.Field{
		{Key: "address", Value: g.Address}, {Key: "from", Value: string(g.From)}, {Key: "members", Value: g.Members},
	})
}

// Remove takes a mailbox, an alias or a group away. The mail of a mailbox stays where it is.
func (e *Edit) Remove(address string) error {
	section, i := e.find(address)
	switch section {
	case "mailboxes":
		e.file.Mailboxes = slices.Delete(e.file.Mailboxes, i, i+1)
	case "aliases":
		e.file.Aliases = slices.Delete(e.file.Aliases, i, i+1)
	case "groups":
		e.file.Groups = slices.Delete(e.file.Groups, i, i+1)
	default:
		return fmt.Errorf("%s: %w", address, ErrNoEntry)
	}
	return e.editor.Remove(section, i)
}
