package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if isInit() {
		fmt.Fprintln(os.Stderr, "init:", runInit())
		return
	}
	if err := runHost(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kernel:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	image   string
	modules []string
	tests   []testRun
	limit   time.Duration
	m       machine
	keep    string
}

func parseOptions(args []string) (options, error) {
	o := options{m: machine{qemu: "qemu-system-x86_64"}}
	flags := flag.NewFlagSet("kernel", flag.ContinueOnError)
	flags.StringVar(&o.image, "image", "", "an unpacked kernel `package`: boot/vmlinuz-*, lib/modules/*")
	names := flags.String("modules", "veth,bridge,8021q,sch_ingress,cls_bpf,nfnetlink,xfrm_user,tcp_diag,udp_diag", "kernel `modules` to load, with those that they need")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "how long the machine may run")
	flags.StringVar(&o.m.accel, "accel", "tcg", "QEMU's `accelerator`: tcg needs no help from the machine, kvm needs /dev/kvm")
	flags.IntVar(&o.m.memory, "memory", 2048, "MiB of the machine")
	flags.IntVar(&o.m.cpus, "cpus", 2, "processors of the machine")
	flags.StringVar(&o.keep, "keep", "", "a `folder` for the initramfs and the kernel's messages; empty: a temporary one")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.modules = strings.Split(*names, ",")
	if flags.NArg() == 0 || o.image == "" {
		return o, errors.New("usage: kernel -image DIR ./PACKAGE[=NAME|NAME]")
	}
	seen := map[string]bool{}
	for _, arg := range flags.Args() {
		t, err := parseTestRun(arg, passedOn())
		if err != nil {
			return o, err
		}
		if seen[t.Package] {
			return o, fmt.Errorf("%s is named twice; join the names with |", t.Package)
		}
		seen[t.Package] = true
		o.tests = append(o.tests, t)
	}
	return o, nil
}

func runHost(args []string, out io.Writer) (err error) {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	// a pipe without a reader must not keep the temporary folder from being removed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "anycastle-kernel-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	m, err := prepare(ctx, o, dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("it was not done after %v", o.limit))
	defer cancel()
	r := newReport(out, o.tests)
	machineErr := m.run(ctx, r.take)
	console, err := os.ReadFile(m.console)
	if err != nil {
		machineErr = errors.Join(machineErr, err)
	}
	return r.close(machineErr, string(console))
}

// prepare builds the test binaries and the initramfs in dir.
func prepare(ctx context.Context, o options, dir string) (machine, error) {
	m := o.m
	img, err := openImage(o.image)
	if err != nil {
		return m, err
	}
	all, err := readModules(img.modules)
	if err != nil {
		return m, err
	}
	moduleFiles, err := all.order(o.modules)
	if err != nil {
		return m, err
	}
	p := plan{Tests: o.tests, Limit: o.limit - bootTime(o.limit)}
	for _, f := range moduleFiles {
		p.Modules = append(p.Modules, filepath.Base(f))
	}
	for _, t := range o.tests {
		if err := build(ctx, t, dir); err != nil {
			return m, err
		}
	}
	m.kernel = img.kernel
	m.initramfs = filepath.Join(dir, "initramfs.cpio")
	m.console = filepath.Join(dir, "console.log")
	return m, writeInitramfs(m.initramfs, p, moduleFiles, dir)
}

// bootTime is the part of the limit that is left to the kernel before init starts and after it ends, so that a test that
// hangs is stopped from within, with a trace.
func bootTime(limit time.Duration) time.Duration { return limit / 5 }

func build(ctx context.Context, t testRun, dir string) error {
	target := filepath.Join(dir, filepath.Base(t.binary()))
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", target, t.Package)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the tests of %s: %w", t.Package, err)
	}
	if _, err := os.Stat(target); err != nil {
		return fmt.Errorf("%s has no tests: %w", t.Package, err)
	}
	return checkNames(ctx, t, target)
}

// checkNames holds each name that is asked for to be a test of the binary, so that a test that is renamed does not drop
// out unseen.
func checkNames(ctx context.Context, t testRun, binary string) error {
	for _, pattern := range strings.Split(cmp.Or(t.Run, "."), "|") {
		if pattern == "" {
			return fmt.Errorf("%s=%s: an empty name", t.Package, t.Run)
		}
		names, err := exec.CommandContext(ctx, binary, "-test.list="+pattern).Output()
		if err != nil {
			return fmt.Errorf("list the tests of %s: %w", t.Package, err)
		}
		if !bytes.Contains(names, []byte("Test")) {
			return fmt.Errorf("%s has no test %s: mend the list of tests", t.Package, pattern)
		}
	}
	return nil
}
