package main

import (
	"fmt"
	"os"
	"path"
	"strings"
	"time"
)

// Paths in the machine.
const (
	planFile  = "/plan.json"
	moduleDir = "/modules"
	binaryDir = "/tests"
	sourceDir = "/src" // the packages' files, for tests that read them
)

// plan is what init is to do.
type plan struct {
	Limit   time.Duration // for everything, from the start of init
	Modules []string      // file names, each after those it needs
	Tests   []testRun
}

// testRun is one test binary.
type testRun struct {
	Package string // as it was asked for: ./bpf
	Run     string // for -test.run: regular expressions joined by |, each of which names a test; empty: all
	Env     []string
}

// parseTestRun takes PACKAGE or PACKAGE=NAME|NAME.
func parseTestRun(arg string, env []string) (testRun, error) {
	pkg, run, _ := strings.Cut(arg, "=")
	if !strings.HasPrefix(pkg, "./") || path.Clean(pkg) != strings.TrimPrefix(pkg, "./") || strings.HasPrefix(path.Clean(pkg), "..") {
		return testRun{}, fmt.Errorf("%s: name a package as ./FOLDER, or ./FOLDER=NAME|NAME for some of its tests", arg)
	}
	return testRun{Package: pkg, Run: run, Env: env}, nil
}

func (r testRun) binary() string {
	return binaryDir + "/" + strings.ReplaceAll(path.Clean(r.Package), "/", "_")
}
func (r testRun) dir() string { return path.Join(sourceDir, r.Package) }

// passedOn gives the variables of this process that tests look at.
func passedOn() []string {
	var env []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "ANYCASTLE_") {
			env = append(env, v)
		}
	}
	return env
}
