package chaos

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// classes are the files that a replica relies on.
var classes = []struct {
	name string
	is   func(path string) bool // below the replica's directory
}{
	{"log of the group", func(p string) bool { return strings.HasSuffix(p, ".wal") }},
	{"state of the group", func(p string) bool { return inGroup(p) && !strings.HasSuffix(p, ".wal") }},
	{"checkpoint", func(p string) bool { return strings.Contains(filepath.Base(p), "checkpoint") }},
	{"message", func(p string) bool {
		dir := filepath.Base(filepath.Dir(p))
		return strings.Contains(p, "@") && (dir == "cur" || dir == "new")
	}},
	{"UID list", func(p string) bool { return filepath.Base(p) == "dovecot-uidlist" }},
	{"index", func(p string) bool { return filepath.Base(p) == "anycastle-index" }},
}

func inGroup(path string) bool { return strings.Contains(path, "/.raft/") }

// truncate cuts a file short, within what is written of it.
func truncate(f *os.File, written int64, rnd *rand.Rand) error {
	return f.Truncate(rnd.Int64N(written))
}

// flip changes one bit of what is written of a file.
func flip(f *os.File, written int64, rnd *rand.Rand) error {
	at, b := rnd.Int64N(written), make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1 << rnd.IntN(8)
	_, err := f.WriteAt(b, at)
	return err
}

// written is how much of a file is not the zeros that it was made long with; 0: nothing.
func written(file string) (int64, error) {
	text, err := os.ReadFile(file)
	return int64(len(bytes.TrimRight(text, "\x00"))), err
}

// damage changes one file below a directory in place: one of a class at random, of those that there are.
func damage(root string, rnd *rand.Rand, how func(*os.File, int64, *rand.Rand) error) (file string, err error) {
	found := make([][]string, len(classes))
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			return err
		}
		for i, class := range classes {
			if class.is(path) {
				found[i] = append(found[i], path)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	for _, i := range rnd.Perm(len(found)) {
		if len(found[i]) == 0 {
			continue
		}
		file = found[i][rnd.IntN(len(found[i]))]
		n, err := written(file)
		if err != nil {
			return file, err
		}
		if n == 0 {
			continue
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			return file, err
		}
		return file, errors.Join(how(f, n, rnd), f.Close())
	}
	return "", errors.New("there is no file to damage")
}
