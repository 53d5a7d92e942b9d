package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// modules is what a kernel package has beside the kernel.
type modules struct {
	files   map[string]string // by name, with _ for -
	builtIn map[string]bool
	needs   func(file string) ([]string, error)
}

func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}

// readModules lists dir, which is lib/modules/RELEASE. The package has no modules.dep: depmod would make it when the
// package is installed. So the modules themselves are asked what they need.
func readModules(dir string) (modules, error) {
	m := modules{files: map[string]string{}, builtIn: map[string]bool{}, needs: neededBy}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".ko") {
			m.files[moduleName(p)] = p
		}
		return err
	})
	if err != nil {
		return m, err
	}
	list, err := os.Open(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return m, err
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		m.builtIn[moduleName(lines.Text())] = true
	}
	return m, lines.Err()
}

// order gives the files of the named modules and of all that they need, each after those it needs.
func (m modules) order(names []string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = moduleName(name)
		if seen[name] || m.builtIn[name] {
			return nil
		}
		seen[name] = true
		file, ok := m.files[name]
		if !ok {
			return fmt.Errorf("kernel module %s: the package has no such module, and it is not built in", name)
		}
		needs, err := m.needs(file)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return fmt.Errorf("%w (needed by %s)", err, name)
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// neededBy reads the names of the modules that a module needs from the module itself.
func neededBy(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("kernel module %s: %w", file, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("kernel module %s: it has no section .modinfo", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("kernel module %s: %w", file, err)
	}
	return depends(info), nil
}

// depends takes the names after depends= in the strings of a section .modinfo.
func depends(info []byte) []string {
	for s := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(s), "depends="); ok {
			return slices.DeleteFunc(strings.Split(list, ","), func(n string) bool { return n == "" })
		}
	}
	return nil
}
