package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// machine is what QEMU is to boot.
type machine struct {
	qemu              string // the program
	kernel, initramfs string
	console           string // the file that the kernel's messages go to
	accel             string
	memory, cpus      int
}

// The kernel's command line. Any fault of the kernel's ends the machine. The watchdogs are off since on a busy host an
// emulated processor stands still longer than they bear; mitigations, since nothing in the machine has a secret.
const commandLine = "console=ttyS0 rdinit=/init panic=-1 oops=panic nowatchdog rcupdate.rcu_cpu_stall_suppress=1 mitigations=off random.trust_cpu=on"

func (m machine) args() []string {
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
		"-machine", "q35,accel=" + m.accel, "-cpu", "max",
		"-smp", fmt.Sprint(m.cpus), "-m", fmt.Sprint(m.memory),
		"-kernel", m.kernel, "-initrd", m.initramfs, "-append", commandLine,
		"-serial", "file:" + m.console, "-serial", "stdio",
	}
}

// run boots the machine and hands each event to take, until the machine has gone.
func (m machine) run(ctx context.Context, take func(event)) error {
	// the kernel kills QEMU when the thread that started it ends: it must live as long as this call
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, m.qemu, m.args()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	readErr := readEvents(out, take)
	if readErr != nil {
		// it must not wait for a reader
		readErr = errors.Join(readErr, cmd.Process.Kill())
	}
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("the machine was stopped: %w", context.Cause(ctx))
	}
	if waitErr != nil {
		waitErr = fmt.Errorf("QEMU: %w", waitErr)
	}
	return errors.Join(readErr, waitErr)
}

func readEvents(r io.Reader, take func(event)) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil // half a line is what the machine did not get to say
		}
		if err != nil {
			return fmt.Errorf("read from the machine: %w", err)
		}
		e, err := parseEvent(line)
		if err != nil {
			return err
		}
		take(e)
	}
}
