package directory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	d := society(t)
	for _, tc := range []struct {
		q    Question
		want string
	}{
		{Question{Address: "A+x@example.org"}, `0 A+x@example.org mailbox: as a subaddress of a@example.org; on LUN lun-1; quota 5G; quota 7 messages
accepted: it goes to one mailbox, on LUN lun-1; its store may still say that it is full`},
		{Question{Address: "open@example.org"}, `0 open@example.org group: 3 members; anyone may write to it
1 closed@example.org group: 2 members; its own mailboxes may write to it
2 a@example.org mailbox: on LUN lun-1; quota 5G; quota 7 messages
2 inner@example.org group: 1 members; mailboxes of its domain may write to it
3 b@example.org mailbox: on LUN lun-2
1 d@example.org mailbox: on LUN lun-2
1 a@example.org mailbox: it was met before, and counts once
accepted: it goes to 3 mailboxes; the store of each may still say that it is full`},
		{Question{Address: "to-closed@example.org"}, `0 to-closed@example.org alias: to closed@example.org
1 closed@example.org group: 2 members; its own mailboxes may write to it
2 a@example.org mailbox: on LUN lun-1; quota 5G; quota 7 messages
2 inner@example.org group: 1 members; mailboxes of its domain may write to it
3 b@example.org mailbox: on LUN lun-2
refused: a group on the way takes no mail from anyone but those whom it names; it would if one of these had logged in`},
		{Question{Address: "inner@example.org", From: "d@example.org"}, `0 inner@example.org group: 1 members; mailboxes of its domain may write to it
1 b@example.org mailbox: on LUN lun-2
accepted: it goes to one mailbox, on LUN lun-2; its store may still say that it is full`},
		{Question{Address: "c@example.org"}, `0 c@example.org mailbox: on LUN lun-1; disabled: no login, but mail arrives
accepted: it goes to one mailbox, on LUN lun-1; its store may still say that it is full`},
		{Question{Address: "b@example.org", From: "c@example.org"}, `0 b@example.org mailbox: on LUN lun-2
refused: c@example.org is disabled, so its user cannot log in to send`},
		{Question{Address: "b@example.org", From: "info@example.org"}, `0 b@example.org mailbox: on LUN lun-2
refused: info@example.org is no mailbox, so nobody can log in with it to send`},
		{Question{Address: "z@example.org"}, "0 z@example.org nothing: the directory has no such address\nrefused: there is no such mailbox, alias or group"},
		{Question{Address: "z@example.net"}, "0 z@example.net nothing: example.net is not one of our domains\nrefused: there is no such mailbox, alias or group"},
		{Question{Address: "../z"}, "0 ../z nothing: this is no address that a mailbox may have\nrefused: there is no such mailbox, alias or group"},
	} {
		x := d.Explain(t.Context(), tc.q)
		var b strings.Builder
		for _, s := range x.Steps {
			fmt.Fprintf(&b, "%d %s %s: %s\n", s.Depth, s.Address, s.Kind, s.Says)
		}
		if diff := cmp.Diff(tc.want, b.String()+x.Verdict+": "+x.Why); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.q, diff)
		}
	}
}
