package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"anycastle/internal/config"
	"anycastle/mailroles"
	"anycastle/mailroles/directory"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const mailUserLong = `Changes the mailboxes file that the node file names, or that --file does. Comments, order and all other
lines stay as they are. Nothing changes when the file would be wrong afterwards; when a command has ended well
the disk has the new file, and a role on this node has read it some seconds later, without a restart. Copy the
file to the other nodes: every front end and store has its own.

What is in LDAP is changed with the tools of LDAP.`

// userFlags are those of every command about the mailboxes file.
type userFlags struct{ config, file string }

func newMailUser(e env) *cobra.Command {
	f := &userFlags{}
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Add, change, remove and list mailboxes, aliases and groups of the mailboxes file",
		Long:  mailUserLong,
		Args:  cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVarP(&f.config, "config", "c", defaultNodeFile, "node file, for the mailboxes file and the LUNs")
	cmd.PersistentFlags().StringVar(&f.file, "file", "", "mailboxes file; the node file is not read then, and every LUN is right")
	cmd.AddCommand(newUserAdd(e, f), newUserPasswd(e, f), newUserDisable(e, f, true), newUserDisable(e, f, false),
		newUserAlias(e, f), newUserGroup(e, f), newUserRemove(e, f), newUserList(e, f))
	return cmd
}

// where gives the mailboxes file, and the names of the LUNs; nil when every name is right. Of the node file only these are
// read: a mailbox can be added before all else is in order.
func (f *userFlags) where() (path string, luns []string, err error) {
	if f.file != "" {
		return f.file, nil, nil
	}
	doc, err := config.Load(f.config)
	if err != nil {
		return "", nil, usageError{err}
	}
	if !doc.Has("mail") {
		return "", nil, usageError{fmt.Errorf("%s has no mail section; name the mailboxes file with --file", f.config)}
	}
	var c mailroles.Config
	doc.Decode("mail", &c)
	if err := doc.Err(); err != nil {
		return "", nil, usageError{err}
	}
	if c.Directory.LDAP != nil {
		return "", nil, usageError{fmt.Errorf("the mailboxes of %s are in LDAP; use its tools", f.config)}
	}
	luns = []string{}
	for _, l := range c.LUNs {
		luns = append(luns, l.Name)
	}
	return c.Directory.File, luns, nil
}

// editTime bounds the wait for another that changes the file.
const editTime = 10 * time.Second

// edit changes the mailboxes file.
func (f *userFlags) edit(ctx context.Context, change func(*directory.Edit) error) error {
	path, luns, err := f.where()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	return directory.Change(ctx, path, luns, change)
}

func newUserAdd(e env, f *userFlags) *cobra.Command {
	var m directory.FileMailbox
	var quota string
	var stdin bool
	cmd := &cobra.Command{
		Use:   "add ADDRESS",
		Short: "Add a mailbox",
		Long: `Adds a mailbox with a password, which is asked for, or read from standard input with --password-stdin. The
file gets an argon2id hash and keys for SCRAM-SHA-256, and never the password.`,
		Example: `  anycastle mail user add alice@example.org --lun lun-east --quota 5G
  pwgen 20 1 | anycastle mail user add bob@example.org --lun lun-west --password-stdin`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if quota != "" {
				if err := m.Quota.Size.UnmarshalText([]byte(quota)); err != nil {
					return usageError{fmt.Errorf("--quota %s: want a size such as 500M or 5G", quota)}
				}
			}
			if m.LUN == "" {
				return usageError{errors.New("say where the mail is to be, with --lun")}
			}
			password, err := newPassword(e, stdin)
			if err != nil {
				return err
			}
			m.Address = args[0]
			err = f.edit(cmd.Context(), func(edit *directory.Edit) error { return edit.AddMailbox(m, password) })
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: added, on LUN %s\n", args[0], m.LUN)
			return nil
		},
	}
	cmd.Flags().StringVar(&m.LUN, "lun", "", "LUN that keeps the mail; needed")
	cmd.Flags().StringVar(&quota, "quota", "", "most bytes, such as 500M or 5G; no bound unless given")
	cmd.Flags().Int64Var(&m.Quota.Messages, "quota-messages", 0, "most messages; no bound unless given")
	cmd.Flags().StringSliceVar(&m.SendAs, "send-as", nil, "an address that it may send as, besides its own and its aliases")
	addStdin(cmd, &stdin)
	return cmd
}

func addStdin(cmd *cobra.Command, stdin *bool) {
	cmd.Flags().BoolVar(stdin, "password-stdin", false, "read the password from a line of standard input")
}

func newUserPasswd(e env, f *userFlags) *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:     "passwd ADDRESS",
		Short:   "Give a mailbox another password",
		Long:    `Changes a mailbox's password, which is asked for, or read from standard input with --password-stdin.`,
		Example: "  anycastle mail user passwd alice@example.org",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := newPassword(e, stdin)
			if err != nil {
				return err
			}
			err = f.edit(cmd.Context(), func(edit *directory.Edit) error { return edit.SetPassword(args[0], password) })
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: has another password\n", args[0])
			return nil
		},
	}
	addStdin(cmd, &stdin)
	return cmd
}

// newPassword reads a password that is to be set: twice from a terminal, which does not show it, or a line of standard input.
func newPassword(e env, stdin bool) (string, error) {
	file, ok := e.stdin.(*os.File)
	typed := ok && term.IsTerminal(int(file.Fd())) && !stdin
	if !typed && !stdin {
		return "", usageError{errors.New("standard input is no terminal; to read the password from it, say --password-stdin")}
	}
	if !typed {
		return readLine(e)
	}
	first, err := readPassword(e)
	if err != nil {
		return "", err
	}
	fmt.Fprint(e.stderr, "again, ")
	second, err := readPassword(e)
	if err != nil {
		return "", err
	}
	if first != second {
		return "", usageError{errors.New("these are two passwords; nothing is changed")}
	}
	if first == "" {
		return "", usageError{errors.New("an empty password is none; nothing is changed")}
	}
	return first, nil
}

func newUserDisable(e env, f *userFlags, on bool) *cobra.Command {
	verb, short, done := "enable", "Let the user of a mailbox log in again", "may log in"
	if on {
		verb, short = "disable", "Keep the user of a mailbox from logging in and sending; mail still arrives"
		done = "may not log in; mail still arrives"
	}
	return &cobra.Command{
		Use:     verb + " ADDRESS",
		Short:   short,
		Example: "  anycastle mail user " + verb + " alice@example.org",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.edit(cmd.Context(), func(edit *directory.Edit) error { return edit.Disable(args[0], on) }); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: %s\n", args[0], done)
			return nil
		},
	}
}

func newUserAlias(e env, f *userFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "alias ADDRESS TARGET...",
		Short:   "Add an alias: an address whose mail goes to others",
		Long:    `Adds an alias. Its targets are addresses of the file: mail is not forwarded to other domains.`,
		Example: "  anycastle mail user alias info@example.org alice@example.org",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := directory.FileAlias{Address: args[0], To: args[1:]}
			if err := f.edit(cmd.Context(), func(edit *directory.Edit) error { return edit.AddAlias(a) }); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: added, to %s\n", args[0], strings.Join(args[1:], ", "))
			return nil
		},
	}
}

func newUserGroup(e env, f *userFlags) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "group ADDRESS MEMBER...",
		Short: "Add a group: an address of many, to which not everyone may write",
		Long: `Adds a group. Its members are mailboxes, aliases and groups of the file. With --from members only its own
mailboxes may write to it, and with --from domain those of its domain: when they have logged in to send.`,
		Example: "  anycastle mail user group staff@example.org alice@example.org bob@example.org --from domain",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			g := directory.FileGroup{Address: args[0], From: directory.Senders(from), Members: args[1:]}
			if err := f.edit(cmd.Context(), func(edit *directory.Edit) error { return edit.AddGroup(g) }); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: added, with %s\n", args[0], strings.Join(args[1:], ", "))
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", string(directory.Anyone), "who may write to it: anyone, members or domain")
	return cmd
}

func newUserRemove(e env, f *userFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ADDRESS",
		Short: "Remove a mailbox, an alias or a group; mail that is there stays on its LUN",
		Long: `Removes an entry. Mail for it is refused then. The mail that a mailbox has is not deleted. What still leads to
the address keeps it from being removed.`,
		Example: "  anycastle mail user remove alice@example.org",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.edit(cmd.Context(), func(edit *directory.Edit) error { return edit.Remove(args[0]) }); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: removed\n", args[0])
			return nil
		},
	}
}
