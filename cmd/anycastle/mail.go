package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"reflect"
	"strings"

	"anycastle/internal/daemon"
	"anycastle/mailroles"
	"anycastle/mailroles/directory"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newMail(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mail",
		Short: "Run a mail role: smtp, submission, imap, store, witness or monitor; or change the mailboxes file",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		mailCommand(e, "smtp", "Accept mail for known mailboxes and hand it to their stores",
			`An MX front end. It keeps no mail: a message is acknowledged with 250 only when the store of every
recipient has it on disk. On any doubt it answers 451 and the sender keeps the mail.`,
			func(c *mailroles.Config) bool { return c.SMTP != nil },
			func(c mailroles.Config, o mailroles.Options) (mailroles.Role, error) { return mailroles.NewSMTP(c, o) }),
		mailCommand(e, "submission", "Take mail from users who log in",
			`Takes mail from mail clients, on the ports 587 and 465: users log in over TLS and send only as what
is theirs. Mail for own domains goes to its stores at once, and all other into the queue on the
sender's LUN; a message is acknowledged with 250 only when all of them have it on disk. Messages are
signed with the DKIM keys of the node file. A reload (SIGHUP) reads the keys and messages_per_hour anew.`,
			func(c *mailroles.Config) bool { return c.Submission != nil },
			func(c mailroles.Config, o mailroles.Options) (mailroles.Role, error) {
				return mailroles.NewSubmission(c, o)
			}),
		mailCommand(e, "imap", "Log IMAP clients in and join them to their mailbox's store",
			`An IMAP front end. It speaks only until login, finds the store of the mailbox, and splices. When it
is told to stop, or the mailbox moves, a session ends with BYE as soon as no command is at work.`,
			func(c *mailroles.Config) bool { return c.IMAP != nil },
			func(c mailroles.Config, o mailroles.Options) (mailroles.Role, error) { return mailroles.NewIMAP(c, o) }),
		mailCommand(e, "store", "Keep the mail of one LUN, or the replicas of a node",
			`Keeps mailboxes as Maildir++ and serves them to the front ends: LMTP and IMAP over mutual TLS. A
message is acknowledged when it and its operation in the LUN's log are on disk. What the start finds and
does not know goes to .quarantine in the LUN's directory; `+"`anycastle show lun`"+` tells why. Where the
LUN has a queue, mail of its users to other sites is kept there until it is delivered: show queue.

A LUN may have replicas. Then a message is acknowledged when a quorum of them has its operation, and two, at two
sites, have its body. The active one takes the LUN's addresses, on lo, and announces them by BGP where the file
has an rhi section: show lun, explain lun.`,
			func(c *mailroles.Config) bool { return c.Store != nil },
			func(c mailroles.Config, o mailroles.Options) (mailroles.Role, error) { return mailroles.NewStore(c, o) }),
		newWitness(e),
		newMonitor(e),
		newHashPassword(e),
		newMailQueue(e),
		newMailUser(e),
	)
	return cmd
}

func mailCommand(e env, name, short, long string, runs func(*mailroles.Config) bool,
	make func(mailroles.Config, mailroles.Options) (mailroles.Role, error),
) *cobra.Command {
	return roleCommand(e, name, name, short, long,
		func(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
			if node.Mail == nil || !runs(node.Mail) {
				return nil, nil
			}
			id := identityOf(node, name, log, reg)
			opt := mailroles.Options{Log: log, Registry: reg}
			if id != nil {
				opt.Identity = id
			}
			role, err := make(*node.Mail, opt)
			if err != nil {
				return nil, err
			}
			dir := role.Directory()
			r := &running{
				status: map[string]func() any{
					"/v1/mail":      func() any { return []any{role.Status()} },
					"/v1/drain":     func() any { return role.Drain() },
					"/v1/directory": func() any { return []directory.Status{dir.Status()} },
				},
				handlers: map[string]http.HandlerFunc{
					"POST /v1/explain-mail": func(w http.ResponseWriter, r *http.Request) {
						daemon.Answer(log, func(q directory.Question) (directory.Explanation, error) {
							return dir.Explain(r.Context(), q), nil
						})(w, r)
					},
				},
				healthy: role.Healthy,
				ready:   role.Ready(),
				reload:  reloadMail(role, *node.Mail),
				tasks:   []daemon.Task{withDirectory(role)},
			}
			if s, ok := role.(*mailroles.Store); ok {
				r.status["/v1/lun"], r.status["/v1/queue"] = s.LUN, s.Queue
				maps.Copy(r.handlers, s.QueueOrders())
				maps.Copy(r.handlers, mailroles.NewSnapshots(log, s.Open, s.Active).Handlers())
				maps.Copy(r.handlers, s.LUNOrders())
			}
			maps.Copy(r.handlers, role.Handlers())
			if id != nil && id.role != nil {
				addRHIStatus(r.status, id.role)
				r.tasks = []daemon.Task{beside(role.Ready(), id.role.Run, r.tasks[0])}
			}
			return r, nil
		})
}

// reloader is a mail role that takes a changed config while it runs.
type reloader interface {
	Reload(ctx context.Context, c mailroles.Config) error
}

// reloadMail has a role read the mailboxes file again. What else has changed in the mail section is the role's to take; most
// keep it as long as they run.
func reloadMail(role mailroles.Role, before mailroles.Config) func(context.Context, *nodeFile) error {
	return func(ctx context.Context, node *nodeFile) error {
		if node.Mail == nil {
			return errors.New("the file has no mail section any more; stop the role instead")
		}
		if r, ok := role.(reloader); ok {
			if err := r.Reload(ctx, *node.Mail); err != nil {
				return err
			}
		} else if !reflect.DeepEqual(*node.Mail, before) {
			return errors.New("mail: only the mailboxes file is read while the role runs; " +
				"restart the role for what has changed besides")
		}
		return role.Directory().Reload()
	}
}

// withDirectory runs a role and its directory, which ends after it.
func withDirectory(role mailroles.Role) daemon.Task {
	return func(ctx context.Context) error {
		dir := role.Directory()
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- dir.Run(running) }()
		err := role.Run(ctx)
		stop()
		return errors.Join(err, <-ended, dir.Close())
	}
}

func newHashPassword(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password",
		Short: "Read a password and print its hash for the mailboxes file",
		Long: `Reads a password from the terminal without showing it, or a line from standard input, and prints
its argon2id hash, to be put into the mailboxes file.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			password, err := readPassword(e)
			if err != nil {
				return err
			}
			hash, err := directory.HashPassword(password)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, hash)
			return nil
		},
	}
}

func readPassword(e env) (string, error) {
	if f, ok := e.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(e.stderr, "password: ")
		text, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(e.stderr)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		return string(text), nil
	}
	return readLine(e)
}

// readLine reads a password from standard input.
func readLine(e env) (string, error) {
	line, err := bufio.NewReader(e.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usageError{errors.New("no password on standard input")}
	}
	return line, nil
}
