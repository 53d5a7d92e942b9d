// Command anycastle keeps mail reachable at one address while servers, load balancers, links and data centres fail.
//
// One binary holds every role: the VIP load balancer (lb), route health injection (rhi), the global site selector
// (gss), the agent on a real (real) and the mail roles (mail smtp|submission|imap|store), plus the lab that runs two whole sites
// on one machine. Nouns read (show vip), verbs change or start. No logic lives here: each file assembles a role or
// lays out an answer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// env is the world as a command sees it, so that tests can run commands in their own process.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	os.Exit(run(context.Background(), env{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}

// Exit codes: 0 done; 1 it went wrong; 2 the command line or a config file is wrong.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError marks an error whose mend is on the command line or in a config file.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitCode is the exit status of a command that ran in a lab node, to be passed on.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

func run(ctx context.Context, e env, args []string) int {
	cmd := newRoot(e)
	cmd.SetArgs(args)
	cmd.SetIn(e.stdin)
	cmd.SetOut(e.stdout)
	cmd.SetErr(e.stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if code, ok := err.(exitCode); ok {
		return int(code) // a command run inside a lab node has said its own piece
	}
	fmt.Fprintf(e.stderr, "%v%s\n", err, hint(err, os.Geteuid()))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// hint is the mend of an error for want of rights that has none: one that names a user is content with another than root.
func hint(err error, uid int) string {
	text := err.Error()
	if errors.Is(err, os.ErrPermission) && uid != 0 && !strings.Contains(text, "root") && !strings.Contains(text, "let this user") {
		return "; this needs root: run it again with sudo"
	}
	return ""
}
