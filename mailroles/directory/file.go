package directory

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"anycastle/internal/config"
)

// maxFile bounds the mailboxes file in bytes: it has some hundred for each mailbox.
const maxFile = 256 << 20

// File is what a mailboxes file says.
type File struct {
	Mailboxes []FileMailbox
	Aliases   []FileAlias
	Groups    []FileGroup
	Seed      string // base64 of at least 16 random bytes: keys for SCRAM that unknown users are shown are made of it
}

// FileMailbox is one entry of `mailboxes:`.
type FileMailbox struct {
	Address  string    `yaml:"address"`  // compared without regard to case
	Password string    `yaml:"password"` // argon2id hash in PHC form, or bcrypt
	SCRAM    string    `yaml:"scram"`    // keys for SCRAM-SHA-256 in the form of RFC 5803; default none
	LUN      string    `yaml:"lun"`      // where the mail is
	Quota    FileQuota `yaml:"quota"`    // default none
	SendAs   []string  `yaml:"send_as"`  // addresses that it may send as, besides its own and its aliases
	Disabled bool      `yaml:"disabled"` // no login; mail still arrives
}

// FileQuota bounds a mailbox.
type FileQuota struct {
	Size     Size  `yaml:"size"`     // such as 5G; default none
	Messages int64 `yaml:"messages"` // default none
}

// FileAlias is one entry of `aliases:`.
type FileAlias struct {
	Address string   `yaml:"address"`
	To      []string `yaml:"to"` // addresses in this file
}

// FileGroup is one entry of `groups:`.
type FileGroup struct {
	Address string   `yaml:"address"`
	Members []string `yaml:"members"` // addresses in this file
	From    Senders  `yaml:"from"`    // anyone, members or domain; default anyone
}

// SetDefaults implements config.Defaulter.
func (g *FileGroup) SetDefaults() { g.From = Anyone }

// Size is a number of bytes; it is written as 500M or 5G too, in powers of 1024.
type Size int64

// sizeUnits are from the largest to none.
var sizeUnits = []struct {
	letter string
	bytes  Size
}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(text), u.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > (1<<62)/int64(u.bytes) {
			return errors.New("no size")
		}
		*s = Size(n) * u.bytes
		return nil
	}
	return errors.New("no size")
}

// Kind says what a value looks like, for complaints.
func (s *Size) Kind() string { return "a size such as 500M or 5G" }

// String gives the shortest form.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.letter
		}
	}
	return "0"
}

// table is a read mailboxes file.
type table struct {
	entries map[string]*entry
	domains map[string]bool
	counts  Counts
	decoy   string // hash that is checked for unknown users, so that they cost as much as known ones
	seed    []byte
	rounds  int // of the keys of unknown users
}

// Counts says how many of each kind there are.
type Counts struct {
	Mailboxes int `json:"mailboxes"`
	Aliases   int `json:"aliases"`
	Groups    int `json:"groups"`
}

func loadTable(path string, luns []string) (*table, error) {
	doc, err := config.LoadUpTo(path, maxFile)
	if err != nil {
		return nil, err
	}
	return newTable(doc, luns)
}

func parseTable(name string, text []byte, luns []string) (*table, error) {
	doc, err := config.ParseUpTo(name, text, maxFile)
	if err != nil {
		return nil, err
	}
	return newTable(doc, luns)
}

// newTable checks the whole file. Without luns every LUN is right.
func newTable(doc *config.Doc, luns []string) (*table, error) {
	t := &table{entries: map[string]*entry{}, domains: map[string]bool{}}
	b := builder{table: t, places: map[string]place{}, luns: luns, perLUN: map[string]int{}}
	f := b.decode(doc)
	for i, m := range f.Mailboxes {
		b.mailbox(b.mailboxes.Index(i), m)
	}
	for i, a := range f.Aliases {
		b.leads(b.aliases.Index(i), "to", a.Address, a.To, &entry{kind: anAlias})
	}
	for i, g := range f.Groups {
		at := b.groups.Index(i)
		if g.From != Anyone && g.From != Members && g.From != Domain {
			at.Key("from").Errorf("%q is none of %s, %s and %s", g.From, Anyone, Members, Domain)
		}
		b.leads(at, "members", g.Address, g.Members, &entry{kind: aGroup, from: g.From})
	}
	b.follow()
	if err := doc.Err(); err != nil {
		return nil, err
	}
	t.counts = Counts{len(f.Mailboxes), len(f.Aliases), len(f.Groups)}
	return t, t.hide(f)
}

// decode reads the sections of a mailboxes file.
func (b *builder) decode(doc *config.Doc) File {
	doc.KnownSections("mailboxes", "aliases", "groups", "seed")
	var f File
	b.mailboxes = doc.Decode("mailboxes", &f.Mailboxes)
	b.aliases = doc.Decode("aliases", &f.Aliases)
	b.groups = doc.Decode("groups", &f.Groups)
	at := doc.Decode("seed", &f.Seed)
	var err error
	if b.table.seed, err = base64.StdEncoding.DecodeString(f.Seed); err != nil || f.Seed != "" && len(b.table.seed) < 16 {
		at.Errorf("no base64 of at least 16 bytes; make some with `head -c 24 /dev/urandom | base64`")
	}
	return f
}

// hide prepares what unknown users are shown: the work and the rounds of the first mailbox that has any.
func (t *table) hide(f File) (err error) {
	like := decoyDefault
	if len(f.Mailboxes) > 0 {
		like = f.Mailboxes[0].Password
	}
	for _, m := range f.Mailboxes {
		if keys, err := ParseKeys(m.SCRAM); err == nil {
			t.rounds = keys.Iterations
			break
		}
	}
	if len(t.seed) == 0 {
		t.seed = make([]byte, 32)
		if _, err := rand.Read(t.seed); err != nil {
			return err
		}
	}
	t.decoy, err = decoy(like)
	return err
}

// decoyDefault sets the work of a login when there is no mailbox at all.
const decoyDefault = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// find implements source.
func (t *table) find(_ context.Context, address string, _ bool) (*entry, error) {
	if e, ok := t.entries[address]; ok {
		return e, nil
	}
	return nil, ErrUnknown
}

// local implements source.
func (t *table) local(domain string) bool { return t.domains[domain] }

// login implements source.
func (t *table) login(_ context.Context, address, password string) (Mailbox, error) {
	hash, known := t.decoy, false
	normal, _ := Normalize(address)
	e, ok := t.entries[normal]
	if ok && e.kind == aMailbox && !e.box.Disabled {
		hash, known = e.hash, true
	}
	right, err := Check(hash, password)
	if err != nil {
		return Mailbox{}, err
	}
	if !known || !right {
		return Mailbox{}, ErrLogin
	}
	return e.box, nil
}

// fake implements source.
func (t *table) fake() ([]byte, int) { return t.seed, t.rounds }

// lunNames is for complaints, which name no more than a reader takes in.
func lunNames(luns []string) string {
	if len(luns) > 20 {
		return strings.Join(luns[:20], ", ") + ", …"
	}
	return strings.Join(luns, ", ")
}

func knownLUN(luns []string, name string) bool { return luns == nil || slices.Contains(luns, name) }
