package main

import (
	"cmp"
	"strconv"
	"strings"

	"anycastle/mailroles/directory"

	"github.com/spf13/cobra"
)

// userRow is an entry of the mailboxes file as it is listed: without what is secret.
type userRow struct {
	Address       string   `json:"address"`
	Kind          string   `json:"kind"` // mailbox, alias or group
	LUN           string   `json:"lun,omitempty"`
	QuotaBytes    int64    `json:"quota_bytes,omitempty"`
	QuotaMessages int64    `json:"quota_messages,omitempty"`
	SendAs        []string `json:"send_as,omitempty"`
	Disabled      bool     `json:"disabled,omitempty"`
	SCRAM         bool     `json:"scram,omitempty"` // whether it can log in by SCRAM too
	To            []string `json:"to,omitempty"`    // of an alias, and a group's members
	From          string   `json:"from,omitempty"`  // who may write to a group
}

func newUserList(e env, f *userFlags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list [ADDRESS]",
		Short: "List mailboxes, aliases and groups, without what is secret",
		Example: `  anycastle mail user list
  anycastle mail user list alice@example.org -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			path, _, err := f.where()
			if err != nil {
				return err
			}
			file, err := directory.Read(path)
			if err != nil {
				return err
			}
			list := userRows(file)
			if len(args) == 1 {
				if list, err = named(list, args[0]); err != nil {
					return err
				}
			}
			if output == "json" {
				return writeJSON(e.stdout, list)
			}
			head := []string{"ADDRESS", "KIND", "LUN", "QUOTA", "LOGIN", "TO", "FROM"}
			return writeTable(e.stdout, head, list, one(userRow.columns))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// named gives the rows of one address.
func named(list []userRow, address string) ([]userRow, error) {
	want, _ := directory.Normalize(address)
	for _, r := range list {
		if is, ok := directory.Normalize(r.Address); ok && is == want {
			return []userRow{r}, nil
		}
	}
	return nil, directory.ErrNoEntry
}

func userRows(f directory.File) []userRow {
	list := []userRow{}
	for _, m := range f.Mailboxes {
		list = append(list, userRow{
			Address: m.Address, Kind: "mailbox", LUN: m.LUN, QuotaBytes: int64(m.Quota.Size), QuotaMessages: m.Quota.Messages,
			SendAs: m.SendAs, Disabled: m.Disabled, SCRAM: m.SCRAM != "",
		})
	}
	for _, a := range f.Aliases {
		list = append(list, userRow{Address: a.Address, Kind: "alias", To: a.To})
	}
	for _, g := range f.Groups {
		list = append(list, userRow{Address: g.Address, Kind: "group", To: g.Members, From: string(g.From)})
	}
	return list
}

func (r userRow) columns() []string {
	var quota []string
	if r.QuotaBytes > 0 {
		quota = append(quota, directory.Size(r.QuotaBytes).String())
	}
	if r.QuotaMessages > 0 {
		quota = append(quota, strconv.FormatInt(r.QuotaMessages, 10)+" messages")
	}
	login := "-"
	switch {
	case r.Disabled:
		login = "disabled"
	case r.SCRAM:
		login = "password, scram"
	case r.Kind == "mailbox":
		login = "password"
	}
	return []string{
		r.Address, r.Kind, cmp.Or(r.LUN, "-"), cmp.Or(strings.Join(quota, ", "), "-"), login, words(r.To), cmp.Or(r.From, "-"),
	}
}
