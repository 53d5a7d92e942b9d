package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A node's root is made of links. One into hostDir stands for something real at the same place in the host; any other
// is a copy of a link that the host has there, and means in the node what it means in the host.

// link fills the node's folder with a link for each entry of the host's, except where the node has its own.
func link(host, folder string) error {
	entries, err := os.ReadDir(host)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target := filepath.Join(host, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(target); err != nil {
				return err
			}
		}
		err := os.Symlink(target, filepath.Join(folder, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// materialise makes path a folder of the node's own, which holds links to what the host has there. Links on the way
// that the host has too are followed; the path without them comes back.
func materialise(path string) (string, error) {
	const maxLinks = 40 // as many as the kernel follows
	for range maxLinks {
		at, rest, err := descend(path)
		if err != nil || rest == "" {
			return at, err
		}
		path = rest
	}
	return "", fmt.Errorf("%s: %w", path, unix.ELOOP)
}

// descend turns one folder after the other into the node's own. It stops at a link that the host has too, and then
// gives the path to go on with as next.
func descend(path string) (at, next string, err error) {
	at = "/"
	names := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for i, name := range names {
		if name == "" {
			continue
		}
		here := filepath.Join(at, name)
		target, err := os.Readlink(here)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = os.Mkdir(here, 0o755)
		case errors.Is(err, unix.EINVAL): // no link; if it is no folder either, the next step says so
			err = nil
		case err == nil && strings.HasPrefix(target, hostDir+"/"):
			err = replace(here, target)
		case err == nil:
			if !filepath.IsAbs(target) {
				target = filepath.Join(at, target)
			}
			return "", filepath.Join(append([]string{target}, names[i+1:]...)...), nil
		}
		if err != nil {
			return "", "", err
		}
		at = here
	}
	return at, "", nil
}

// replace puts a folder of links in the place of a link to a folder of the host.
func replace(path, host string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w", path, unix.ENOTDIR)
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := makeDir(path, info.Mode().Perm()); err != nil {
		return err
	}
	return link(host, path)
}
