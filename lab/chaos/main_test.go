package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"anycastle/internal/proctest"
)

// binary is the product, as a user builds it.
var binary string

// inside is set for the copy of the test binary that has mounts of its own.
const inside = "ANYCASTLE_CHAOS_INSIDE"

// TestMain runs everything in a mount namespace of its own: the disks of the stores go away with it, whatever happens.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(proctest.Main(m, func(at string) { binary = at }))
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Args[0] = os.Args[0]
	self.Env = append(os.Environ(), inside+"=1")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(syscall.SIGINT) // the copy gets it too, and cleans up
	right := clock{}
	marked := right.mark()
	err := self.Run()
	if marked == nil && right.guard() != nil {
		fmt.Fprintln(os.Stderr, "the machine's clock is wrong, and cannot be set")
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(1, exit.ExitCode()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests in a mount namespace:", err)
		os.Exit(1)
	}
}
