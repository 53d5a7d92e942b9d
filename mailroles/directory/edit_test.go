package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"anycastle/internal/config"
)

const handWritten = `# Ours.
mailboxes:
  # the boss
  - address: Alice@example.org   # by her wish
    password: '%s'
    lun: lun-1

  - {address: bob@example.org, password: "%s", lun: lun-2, disabled: false}
aliases: [] # none so far
`

func TestChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailboxes.yml")
	before := fmt.Sprintf(handWritten, cheap(), cheap())
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	luns := []string{"lun-1", "lun-2"}
	change := func(fn func(*Edit) error) {
		t.Helper()
		if err := Change(t.Context(), path, luns, fn); err != nil {
			t.Fatal(err)
		}
	}
	change(func(e *Edit) error { return e.SetPassword("alice@EXAMPLE.org", "new secret") })
	change(func(e *Edit) error { return e.SetPassword("bob@example.org", "bob's") })
	change(func(e *Edit) error { return e.Disable("bob@example.org", true) })
	change(func(e *Edit) error {
		return e.AddMailbox(FileMailbox{Address: "Carol@B\u00fccher.example", LUN: "lun-2", Quota: FileQuota{Size: 5 << 30, Messages: 9}, SendAs: []string{"x@example.net"}}, "carol's")
	})
	change(func(e *Edit) error {
		return e.AddAlias(FileAlias{Address: "info@example.org", To: []string{"alice@example.org"}})
	})
	change(func(e *Edit) error {
		return e.AddGroup(FileGroup{Address: "all@example.org", From: Members, Members: []string{"info@example.org", "bob@example.org"}})
	})
	d, err := Load(path, luns)
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"alice@example.org": "new secret", "carol@xn--bcher-kva.example": "carol's"} {
		if _, err := d.Authenticate(t.Context(), user, password); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		k, err := d.SCRAM(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := deriveKeys(password, k.Salt, k.Iterations); err != nil || same.text() != k.text() {
			t.Errorf("%s: the keys are not of the password", user)
		}
	}
	if m, err := d.Mailbox(t.Context(), "carol@b\u00fccher.example"); err != nil || m.Quota != (Quota{5 << 30, 9}) || m.LUN != "lun-2" {
		t.Errorf("carol is %+v, %v", m, err)
	}
	if got, err := d.ResolveFrom(t.Context(), "bob@example.org", "all@example.org"); err != nil || len(got) != 2 {
		t.Errorf("all are %v, %v", got, err)
	}
	checkKept(t, path)
	for _, address := range []string{"all@example.org", "info@example.org", "alice@example.org"} {
		change(func(e *Edit) error { return e.Remove(address) })
	}
	if f, err := Read(path); err != nil || len(f.Mailboxes) != 2 || len(f.Aliases)+len(f.Groups) != 0 || f.Seed == "" {
		t.Errorf("what is left is %+v, %v", f, err)
	}
}

// checkKept looks for what a person wrote, and for what nobody is to read.
func checkKept(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"# Ours.\nmailboxes:\n  # the boss\n  - address: Alice@example.org   # by her wish\n    scram: \"SCRAM-SHA-256$", "    lun: lun-1\n\n  - {address: bob@example.org, ", "lun: lun-2, disabled: true}\n", "aliases: # none so far\n  - address: info@example.org\n"} {
		if !strings.Contains(string(text), kept) {
			t.Errorf("%q is not there any more:\n%s", kept, text)
		}
	}
	if strings.Contains(string(text), "secret") || strings.Contains(string(text), "carol's") {
		t.Errorf("a password stands in the file:\n%s", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

func TestChangeRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailboxes.yml")
	before := string(file(line("a@example.org", cheap(), "lun-1"))) + "aliases: [{address: b@example.org, to: [a@example.org]}]\n"
	for name, tc := range map[string]struct {
		fn   func(*Edit) error
		want string
		is   error
	}{
		"there already": {func(e *Edit) error { return e.AddMailbox(FileMailbox{Address: "B@example.org", LUN: "lun-1"}, "x") }, "b@example.org is in the file already", ErrThere},
		"no address":    {func(e *Edit) error { return e.AddMailbox(FileMailbox{Address: "../x@y", LUN: "lun-1"}, "x") }, "is no mailbox address", nil},
		"no LUN":        {func(e *Edit) error { return e.AddMailbox(FileMailbox{Address: "c@example.org", LUN: "lun-9"}, "x") }, "mailboxes[1].lun: no LUN is called \"lun-9\"", nil},
		"a bell in the password": {func(e *Edit) error {
			return e.AddMailbox(FileMailbox{Address: "c@example.org", LUN: "lun-1"}, "hunter\a")
		}, "control characters", nil},
		"a long password":       {func(e *Edit) error { return e.SetPassword("a@example.org", strings.Repeat("hunter", 200)) }, "more than 1024 bytes", nil},
		"password of an alias":  {func(e *Edit) error { return e.SetPassword("b@example.org", "x") }, "b@example.org is no mailbox; it stands in aliases", nil},
		"password of nobody":    {func(e *Edit) error { return e.SetPassword("z@example.org", "x") }, "z@example.org: no mailbox", ErrNoEntry},
		"disable nobody":        {func(e *Edit) error { return e.Disable("z", true) }, "z: no mailbox", ErrNoEntry},
		"remove nobody":         {func(e *Edit) error { return e.Remove("z@example.org") }, "z@example.org: no mailbox", ErrNoEntry},
		"remove what is needed": {func(e *Edit) error { return e.Remove("a@example.org") }, "a@example.org is no mailbox, alias or group of this file", nil},
		"alias to elsewhere": {func(e *Edit) error {
			return e.AddGroup(FileGroup{Address: "g@example.org", From: Anyone, Members: []string{"x@example.net"}})
		}, "x@example.net is at another domain", nil},
		"a list in brackets": {func(e *Edit) error {
			return e.AddAlias(FileAlias{Address: "c@example.org", To: []string{"a@example.org"}})
		}, "edited by hand", config.ErrLayout},
		"no words for senders": {func(e *Edit) error {
			return e.AddGroup(FileGroup{Address: "g@example.org", From: "x", Members: []string{"a@example.org"}})
		}, `"x" is none of anyone`, nil},
	} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Change(t.Context(), path, []string{"lun-1"}, tc.fn)
		if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != before {
			t.Errorf("%s: the file has changed, %v:\n%s", name, err, after)
		}
	}
}

// Of many that change the file at once none undoes what another did.
func TestChangesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailboxes.yml")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			err := Change(t.Context(), path, nil, func(e *Edit) error {
				return e.AddMailbox(FileMailbox{Address: fmt.Sprintf("u%d@example.org", i), LUN: "lun-1"}, "x")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if f, err := Read(path); err != nil || len(f.Mailboxes) != 8 {
		t.Errorf("%d mailboxes, %v; want 8", len(f.Mailboxes), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := Change(ctx, path, nil, func(*Edit) error {
		cancel()
		if err := Change(ctx, path, nil, func(*Edit) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a second change within one: %v, want that it waits", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
