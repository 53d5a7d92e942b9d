package maildir

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeywords(t *testing.T) {
	list, err := ParseKeywords([]byte("0 $Forwarded\n2 NonJunk\n"))
	if diff := cmp.Diff([]string{"$Forwarded", "", "NonJunk"}, list); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if got := string(KeywordsBytes(list)); got != "0 $Forwarded\n2 NonJunk\n" {
		t.Errorf("written as %q", got)
	}
	for _, text := range []string{"x\n", "0\n", "-1 a\n", "26 a\n", "0 a\n0 b\n", "0 a b\n", "0 \\Seen\n", "0 \x00\n", "0 ä\n", "\n"} {
		if got, err := ParseKeywords([]byte(text)); !errors.Is(err, ErrKeywords) {
			t.Errorf("ParseKeywords(%q) = %q, %v; want ErrKeywords", text, got, err)
		}
	}
	if got := ParseFlags("Sz"); got.System() != Seen || got&^got.System() != Letter(25) {
		t.Errorf("the letters of Sz are %v", got)
	}
}

func FuzzKeywords(f *testing.F) {
	f.Add([]byte("0 $Forwarded\n2 NonJunk\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseKeywords(text)
		if err != nil {
			return
		}
		again, err := ParseKeywords(KeywordsBytes(list))
		if err != nil || !cmp.Equal(list, again) {
			t.Fatalf("%q became %q, %v", list, again, err)
		}
	})
}

func TestSubscriptions(t *testing.T) {
	want := []string{Inbox, "Entwürfe", "A.B"}
	for version, text := range map[string]string{
		"1": "INBOX\nEntw&APw-rfe\nA.B\nno&folder\n\n",
		"2": "V\t2\n\nINBOX\nEntw&APw-rfe\nA\tB\n",
	} {
		if diff := cmp.Diff(want, ParseSubscriptions([]byte(text))); diff != "" {
			t.Errorf("version %s: %s", version, diff)
		}
	}
	if got := string(SubscriptionsBytes(append(want, "a/b"))); got != "INBOX\nEntw&APw-rfe\nA.B\n" {
		t.Errorf("written as %q", got)
	}
}

func FuzzSubscriptions(f *testing.F) {
	f.Add([]byte("INBOX\nEntw&APw-rfe\n"))
	f.Add([]byte("V\t2\n\nA\tB\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		names := ParseSubscriptions(text)
		if again := ParseSubscriptions(SubscriptionsBytes(names)); !cmp.Equal(names, again) {
			t.Fatalf("%q became %q", names, again)
		}
	})
}
