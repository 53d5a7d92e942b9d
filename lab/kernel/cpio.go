package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive writes an initramfs: a cpio archive of the kind that the kernel's documentation calls "newc" (see
// Documentation/driver-api/early-userspace/buffer-format.rst). The first error stays, and close gives it.
type archive struct {
	w     *bufio.Writer
	inode int
	dirs  map[string]bool
	err   error
}

// Kinds of files, as in the mode of an inode.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeChar = 0o020000
)

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriter(w), dirs: map[string]bool{"/": true}}
}

// entry writes one file. Names are absolute; the parents that are missing are made.
func (a *archive) entry(name string, mode int, major, minor int, content []byte) {
	if parent := path.Dir(name); !a.dirs[parent] {
		a.dir(parent)
	}
	a.write(strings.TrimPrefix(name, "/"), mode, major, minor, content)
}

func (a *archive) write(name string, mode int, major, minor int, content []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	// inode, mode, uid, gid, links, mtime, size, device of the archive, device of a node, length of the name, no checksum
	header := "070701"
	for _, field := range []int{a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name) + 1, 0} {
		header += fmt.Sprintf("%08x", field)
	}
	a.pad(header+name+"\x00", len(header)+len(name)+1)
	a.pad(string(content), len(content))
}

// pad writes text and fills up to a multiple of four bytes.
func (a *archive) pad(text string, n int) {
	for range (4 - n%4) % 4 {
		text += "\x00"
	}
	if _, err := a.w.WriteString(text); err != nil && a.err == nil {
		a.err = err
	}
}

func (a *archive) dir(name string) {
	if a.dirs[name] {
		return
	}
	a.dirs[name] = true
	a.entry(name, modeDir|0o755, 0, 0, nil)
}

func (a *archive) file(name string, perm int, content []byte) {
	a.entry(name, modeFile|perm, 0, 0, content)
}

func (a *archive) char(name string, major, minor int) {
	a.entry(name, modeChar|0o600, major, minor, nil)
}

// copyFile takes a file of this machine.
func (a *archive) copyFile(name string, perm int, from string) {
	content, err := os.ReadFile(from)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.file(name, perm, content)
}

// copyTree takes a folder of this machine with what is in it.
func (a *archive) copyTree(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := path.Join(name, filepath.ToSlash(strings.TrimPrefix(p, from)))
		switch {
		case d.IsDir():
			a.dir(to)
		case d.Type().IsRegular():
			a.copyFile(to, 0o644, p)
		}
		return a.err
	})
	if err != nil && a.err == nil {
		a.err = err
	}
}

func (a *archive) close() error {
	a.write("TRAILER!!!", 0, 0, 0, nil)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}
