package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// eventLine is the machine's second serial line.
const eventLine = "/dev/ttyS1"

// isInit says whether this process is the machine's first.
func isInit() bool { return os.Getpid() == 1 && os.Args[0] == "/init" }

// runInit does what the plan says and switches the machine off. When it returns, the kernel panics, which ends the
// machine too.
func runInit() error {
	start := time.Now()
	if err := mountAll(); err != nil {
		return err
	}
	line, err := openEventLine()
	if err != nil {
		return err
	}
	events := json.NewEncoder(line)
	last := event{Done: true}
	if err := runPlan(events, start); err != nil {
		last = event{Err: err.Error()}
	}
	err = events.Encode(last)
	// what is still in the line's buffer would be lost
	err = errors.Join(err, unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1))
	unix.Sync()
	return errors.Join(err, unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func mountAll() error {
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"}, {"bpf", "/sys/fs/bpf"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	return nil
}

// openEventLine keeps the terminal from rewriting what is written.
func openEventLine() (*os.File, error) {
	line, err := os.OpenFile(eventLine, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	settings, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
	if err == nil {
		settings.Oflag &^= unix.OPOST
		settings.Lflag &^= unix.ECHO | unix.ICANON
		err = unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, settings)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", eventLine, err), line.Close())
	}
	return line, nil
}

func runPlan(events *json.Encoder, start time.Time) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	if err := events.Encode(event{Kernel: unix.ByteSliceToString(name.Release[:])}); err != nil {
		return err
	}
	text, err := os.ReadFile(planFile)
	if err != nil {
		return err
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	for _, m := range p.Modules {
		if err := loadModule(moduleDir + "/" + m); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	ctx, cancel := context.WithDeadline(context.Background(), start.Add(p.Limit))
	defer cancel()
	for _, t := range p.Tests {
		if err := runTests(ctx, events, t); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}

// runTests runs one test binary and passes its output on. An error is one of the machine, not of a test.
func runTests(ctx context.Context, events *json.Encoder, t testRun) error {
	start := time.Now()
	deadline, _ := ctx.Deadline()
	// the binary stops itself a little before it is killed, and says where it was
	timeout := max(time.Until(deadline)-5*time.Second, time.Second)
	args := []string{"-test.v=test2json", "-test.timeout=" + timeout.String()}
	if t.Run != "" {
		args = append(args, "-test.run="+t.Run)
	}
	cmd := exec.CommandContext(ctx, t.binary(), args...)
	cmd.Dir = t.dir()
	cmd.Env = append([]string{"PATH=/bin", "HOME=/tmp", "CI=true"}, t.Env...)
	// a process that a test left behind may hold the pipe
	cmd.WaitDelay = time.Second
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := events.Encode(event{Begin: t.Package}); err != nil {
		return err
	}
	passed := make(chan error, 1)
	go func() { passed <- passOn(events, r) }()
	result := cmd.Run()
	w.Close()
	if err := <-passed; err != nil {
		return err
	}
	e := ended{Package: t.Package, Seconds: time.Since(start).Seconds()}
	if result != nil {
		e.Result = result.Error()
	}
	return events.Encode(event{End: &e})
}

// passOn makes an event of each line but those that say that a test starts or goes on: the serial line is slow.
func passOn(events *json.Encoder, r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" && !strings.HasPrefix(line, marker+"=== ") {
			if err := events.Encode(event{Line: strings.TrimSuffix(line, "\n")}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
