package directory

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"anycastle/internal/config"
)

// MaxPerLUN is the most mailboxes that one LUN holds.
const MaxPerLUN = 1000

// Errors that callers tell apart. Any other error means that the directory cannot tell now: the answer is a temporary one.
var (
	// ErrLogin says that no such mailbox exists or that the password is not its own; it does not say which.
	ErrLogin = errors.New("directory: wrong address or password")
	// ErrUnknown says that there is no such address.
	ErrUnknown = errors.New("directory: no such address")
)

// An address is also a folder name, so it holds no slash and starts with no dot.
var addressForm = regexp.MustCompile("^[a-z0-9!#$%&'*+=?^_`{|}~-][a-z0-9.!#$%&'*+=?^_`{|}~-]*@[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")

// Mailbox is one entry of the mailboxes file.
type Mailbox struct {
	Address  string `yaml:"address"`  // compared without regard to case
	Password string `yaml:"password"` // argon2id hash in PHC form, or bcrypt
	LUN      string `yaml:"lun"`      // where the mail is
}

// Directory is a read mailboxes file. It is safe for concurrent use.
type Directory struct {
	boxes map[string]Mailbox
	decoy string        // checked for unknown users, so that they cost as much as known ones
	slots chan struct{} // bounds hashes in work at a time: each takes megabytes
}

// Load reads the mailboxes file at path. Every mailbox must be on one of the luns.
func Load(path string, luns []string) (*Directory, error) {
	doc, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return fromDoc(doc, luns)
}

// Parse is Load for text that is already in memory; name stands for the file in complaints.
func Parse(name string, text []byte, luns []string) (*Directory, error) {
	doc, err := config.Parse(name, text)
	if err != nil {
		return nil, err
	}
	return fromDoc(doc, luns)
}

func fromDoc(doc *config.Doc, luns []string) (*Directory, error) {
	doc.KnownSections("mailboxes")
	var list []Mailbox
	at := doc.Decode("mailboxes", &list)
	d := &Directory{boxes: map[string]Mailbox{}, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	perLUN := map[string]int{}
	for i, m := range list {
		d.add(at.Index(i), m, luns, perLUN)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	like := decoyDefault
	if len(list) > 0 {
		like = list[0].Password
	}
	var err error
	if d.decoy, err = decoy(like); err != nil {
		return nil, err
	}
	return d, nil
}

// decoyDefault sets the work of a login when there is no mailbox at all.
const decoyDefault = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func (d *Directory) add(at config.Cursor, m Mailbox, luns []string, perLUN map[string]int) {
	m.Address = strings.ToLower(m.Address)
	if len(m.Address) > 254 || !addressForm.MatchString(m.Address) {
		at.Key("address").Errorf("%q is no mailbox address; write one such as alice@example.org", m.Address)
		return
	}
	if _, ok := d.boxes[m.Address]; ok {
		at.Key("address").Errorf("%s is there twice; keep one", m.Address)
		return
	}
	if checkHash(m.Password) != nil {
		// the value is not repeated: it may be a password that was meant to be hashed
		at.Key("password").Errorf("no argon2id hash in PHC form and no bcrypt hash within bounds; make one with a password hashing tool")
	}
	if !slices.Contains(luns, m.LUN) {
		at.Key("lun").Errorf("no LUN is called %q; known are %s", m.LUN, strings.Join(luns, ", "))
	}
	if perLUN[m.LUN]++; perLUN[m.LUN] == MaxPerLUN+1 {
		at.Errorf("LUN %s has more than %d mailboxes; move this and later ones to another LUN", m.LUN, MaxPerLUN)
	}
	d.boxes[m.Address] = m
}

// Mailbox finds a mailbox by its own address, without regard to case. The error is ErrUnknown when there is none.
func (d *Directory) Mailbox(_ context.Context, address string) (Mailbox, error) {
	m, ok := d.boxes[strings.ToLower(address)]
	if !ok {
		return Mailbox{}, ErrUnknown
	}
	return m, nil
}

// Resolve gives the mailboxes that mail for an address goes to, each once. The error is ErrUnknown when there are none.
func (d *Directory) Resolve(ctx context.Context, address string) ([]Mailbox, error) {
	m, err := d.Mailbox(ctx, address)
	if err != nil {
		return nil, err
	}
	return []Mailbox{m}, nil
}

// Authenticate finds the mailbox of a user who knows its password. The error is ErrLogin for an unknown user as for a
// wrong password, after the same work; it is the context's when ctx ends while other logins are in work.
func (d *Directory) Authenticate(ctx context.Context, address, password string) (Mailbox, error) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return Mailbox{}, fmt.Errorf("wait for a password check: %w", ctx.Err())
	}
	m, err := d.Mailbox(ctx, address)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Mailbox{}, err
	}
	hash := d.decoy
	if err == nil {
		hash = m.Password
	}
	ok, checkErr := Check(hash, password)
	if checkErr != nil {
		return Mailbox{}, checkErr
	}
	if err != nil || !ok {
		return Mailbox{}, ErrLogin
	}
	return m, nil
}
