package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// image is an unpacked kernel package.
type image struct {
	kernel  string // the file to boot
	modules string // lib/modules/RELEASE
}

func openImage(dir string) (image, error) {
	var found image
	for _, p := range []struct {
		pattern string
		to      *string
	}{{"boot/vmlinuz-*", &found.kernel}, {"lib/modules/*", &found.modules}} {
		matches, err := filepath.Glob(filepath.Join(dir, p.pattern))
		if err != nil {
			return found, err
		}
		if len(matches) != 1 {
			return found, fmt.Errorf("%s holds %d times %s, want one; -image names an unpacked kernel package", dir, len(matches), p.pattern)
		}
		*p.to = matches[0]
	}
	return found, nil
}

// writeInitramfs packs this program, the modules, the test binaries and the packages' files. Binaries are in dir under
// the base of their name in the machine.
func writeInitramfs(file string, p plan, moduleFiles []string, dir string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	a := newArchive(out)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	a.copyFile("/init", 0o755, self)
	// before init has mounted devtmpfs: what the kernel gives it as its output, and what Go's runtime asks for
	a.char("/dev/console", 5, 1)
	a.char("/dev/null", 1, 3)
	for _, m := range moduleFiles {
		a.copyFile(moduleDir+"/"+filepath.Base(m), 0o644, m)
	}
	for _, t := range p.Tests {
		a.copyFile(t.binary(), 0o755, filepath.Join(dir, filepath.Base(t.binary())))
		a.copyTree(t.dir(), filepath.Clean(t.Package))
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	a.file(planFile, 0o644, text)
	if err := a.close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return out.Close()
}
