package sign

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/wholefile"
)

// ErrKept says that another process keeps the keys in this directory.
var ErrKept = errors.New("another process keeps these keys")

// ErrNoState says that there is no state where there must be one.
var ErrNoState = errors.New("no state of keys")

const (
	maxKeyFile   = 1 << 14
	maxStateFile = 1 << 20
)

// Store is a directory with the keys of a zone: for each two files as BIND's dnssec-keygen makes them, and one with the State,
// which counts: key files that it does not name are not used.
type Store struct {
	dir, zone string
}

// OpenStore says where the keys of a zone are. The directory must exist; one may serve several zones.
func OpenStore(dir, zone string) (*Store, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the keys of %s: %w", zone, err)
	}
	return &Store{dir: dir, zone: dns.CanonicalName(zone)}, nil
}

// path gives a file's path; characters that mean something in paths are written as BIND does.
func (s *Store) path(name, ext string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '+':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return filepath.Join(s.dir, b.String()+ext)
}

func (s *Store) statePath() string { return s.path(s.zone, "keys.json") }

// Load reads the state, and the keys that it names, by ID. Without a file the State is the zero one: the zone was never signed.
func (s *Store) Load() (State, map[string]*Key, error) {
	keys := map[string]*Key{}
	text, err := readFile(s.statePath(), maxStateFile)
	if errors.Is(err, os.ErrNotExist) {
		return State{}, keys, nil
	}
	if err != nil {
		return State{}, nil, fmt.Errorf("load the keys of %s: %w", s.zone, err)
	}
	state, err := DecodeState(text)
	if err != nil {
		return State{}, nil, fmt.Errorf("load the keys of %s: %s: %w", s.zone, s.statePath(), err)
	}
	for id := range state.Keys {
		if keys[id], err = s.load(id); err != nil {
			return State{}, nil, fmt.Errorf("load the keys of %s: %w", s.zone, err)
		}
	}
	return state, keys, nil
}

func (s *Store) load(id string) (*Key, error) {
	public, err := readFile(s.path(id, publicExt), maxKeyFile)
	if err != nil {
		return nil, err
	}
	path := s.path(id, privateExt)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%w: %s is open to everybody; chmod o= it, and roll the key if others could read it", ErrKeyFile, path)
	}
	private, err := readFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	k, err := parseKey(public, private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if k.ID() != id || k.record.Hdr.Name != s.zone {
		return nil, fmt.Errorf("%w: %s holds key %s", ErrKeyFile, path, k.ID())
	}
	return k, nil
}

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}

// refuseOrphans is an error if there are keys where the state knows of none. Were it lost, a new key would be made, which the
// parent's DS records do not point at.
func (s *Store) refuseOrphans(state State) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("look for keys of %s: %w", s.zone, err)
	}
	begin := filepath.Base(s.path("K"+s.zone+"+", ""))
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, begin) && strings.HasSuffix(name, privateExt) && state.Serial == 0 {
			return fmt.Errorf("%w: %s is there and %s is not: put the state back; or adopt the key, if the zone is signed with it now; "+
				"or move it away, if it never was", ErrNoState, name, s.statePath())
		}
	}
	return nil
}

// Adopt takes over a zone that was signed elsewhere, with one key alone, whose files of that ID are in the store, and whose DS
// record the parent has. Nothing changes for validators. There must be no state yet.
func (s *Store) Adopt(id string, now time.Time) error {
	lock, err := s.lock()
	if err != nil {
		return fmt.Errorf("adopt key %s: %w", id, err)
	}
	return errors.Join(s.adopt(id, now), unlock(lock))
}

func (s *Store) adopt(id string, now time.Time) error {
	state, _, err := s.Load()
	if err == nil && state.Serial > 0 {
		err = fmt.Errorf("%s is there already; roll the key that it tells of", s.statePath())
	}
	var key *Key
	if err == nil {
		key, err = s.load(id)
	}
	if err != nil {
		return fmt.Errorf("adopt key %s: %w", id, err)
	}
	return s.Save(Adopt(id, key.Algorithm(), now))
}

// Save replaces the state such that a crash leaves either the old one or the new one.
func (s *Store) Save(state State) error {
	text, err := state.Encode()
	if err == nil {
		err = wholefile.PutDurably(s.statePath(), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save the state of the keys of %s: %w", s.zone, err)
	}
	return nil
}

// Add writes a key's files, which only the owner may read. It is to be called before a State names the key.
func (s *Store) Add(k *Key) error {
	public, private := formatKey(k)
	err := wholefile.PutDurably(s.path(k.ID(), privateExt), private)
	if err == nil {
		err = wholefile.PutDurably(s.path(k.ID(), publicExt), public)
	}
	if err != nil {
		return fmt.Errorf("save key %s: %w", k.ID(), err)
	}
	return nil
}

// Remove deletes a key's files. It is to be called after a State that does not name the key was saved.
func (s *Store) Remove(id string) error {
	err := errors.Join(removeFile(s.path(id, privateExt)), removeFile(s.path(id, publicExt)))
	if err != nil {
		return fmt.Errorf("remove key %s: %w", id, err)
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// unlock ends a lock even if a child that is being started has the file too, for the moment until it runs its program.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// lock keeps other keepers of the zone out until unlock, or until the process dies.
func (s *Store) lock() (*os.File, error) {
	f, err := os.OpenFile(s.path(s.zone, "keys.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w (%s)", ErrKept, s.dir)
		}
		return nil, err
	}
	return f, nil
}
