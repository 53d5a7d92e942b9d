package mtasts

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const goodPolicy = "version: STSv1\r\nmode: enforce\r\nmx: MX1.example.org\r\nmx: *.mail.example.org\r\nmax_age: 86400\r\n"

func TestParsePolicy(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       Policy
		wrong      string
	}{
		{"all", goodPolicy, Policy{Enforce, []string{"mx1.example.org", "*.mail.example.org"}, 24 * time.Hour}, ""},
		{"LF alone, no space, an unknown key", "version:STSv1\nmode:testing\nmx:a.example\nmax_age:1\nfuture: x", Policy{Testing, []string{"a.example"}, time.Second}, ""},
		{"none needs no mx", "version: STSv1\nmode: none\nmax_age: 60\n", Policy{None, nil, time.Minute}, ""},
		{"the first of two", "version: STSv1\nmode: none\nmode: enforce\nmax_age: 60\n", Policy{None, nil, time.Minute}, ""},
		{"a long time is cut", "version: STSv1\nmode: none\nmax_age: 4294967295\n", Policy{None, nil, maxAge}, ""},
		{"another version", "version: STSv2\nmode: none\nmax_age: 60\n", Policy{}, "version"},
		{"no version", "mode: none\nmax_age: 60\n", Policy{}, "lacks version"},
		{"another mode", "version: STSv1\nmode: report\nmax_age: 60\n", Policy{}, "mode"},
		{"no mx", "version: STSv1\nmode: enforce\nmax_age: 60\n", Policy{}, "no mx"},
		{"mx is no name", "version: STSv1\nmode: enforce\nmx: a b\nmax_age: 60\n", Policy{}, "has the mx"},
		{"star in the middle", "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 60\n", Policy{}, "has the mx"},
		{"too many", "version: STSv1\nmode: enforce\nmax_age: 60\n" + strings.Repeat("mx: a.example\n", maxPatterns+1), Policy{}, "too many"},
		{"time is no number", "version: STSv1\nmode: none\nmax_age: -1\n", Policy{}, "max_age"},
		{"no colon", "version: STSv1\n<html>\n", Policy{}, "without a colon"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParsePolicy(tc.text)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
			if (err == nil) != (tc.wrong == "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("error %v, want one about %q", err, tc.wrong)
			}
		})
	}
}

func TestParseRecord(t *testing.T) {
	for _, tc := range []struct {
		texts []string
		want  string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=spf1 -all", "v=STSv1;id=1", "other"}, "1"},
		{[]string{"v=STSv1 ; ext=x; id=2 "}, "2"},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=2"}, ""},
		{[]string{"v=STSv12; id=1"}, ""},
		{[]string{"v=STSv1; id=a-b"}, ""},
		{[]string{"v=STSv1;"}, ""},
		{[]string{"v=STSv1; id=" + strings.Repeat("1", 33)}, ""},
		{nil, ""},
	} {
		got, err := ParseRecord(tc.texts)
		if got != tc.want || (tc.want == "") != errors.Is(err, ErrNoRecord) {
			t.Errorf("%q gives %q, %v; want %q", tc.texts, got, err, tc.want)
		}
	}
}

func TestMatches(t *testing.T) {
	p := Policy{MX: []string{"mx1.example.org", "*.mail.example.org"}}
	for host, want := range map[string]bool{
		"mx1.example.org": true, "MX1.Example.Org.": true, "a.mail.example.org": true,
		"mail.example.org": false, "a.b.mail.example.org": false, ".mail.example.org": false, "mx2.example.org": false, "": false,
	} {
		if got := p.Matches(host); got != want {
			t.Errorf("%q matches: %v", host, got)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(goodPolicy)
	f.Add("version: STSv1\nmode: none\nmax_age: 60\n")
	f.Add("version: STSv1\nmode: enforce\nmx: *.a\nmax_age: 4294967295\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > maxAge || !slices.Contains([]Mode{Enforce, Testing, None}, p.Mode) || p.Mode != None && len(p.MX) == 0 {
			t.Errorf("%q gives %+v", text, p)
		}
		for _, name := range p.MX {
			if host := strings.Replace(name, "*", "a", 1); !p.Matches(host) {
				t.Errorf("%q does not match its own %q", text, host)
			}
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1;=;id")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseRecord([]string{text})
		if (err == nil) != (id != "") || !strings.Contains(text, id) {
			t.Errorf("%q gives %q, %v", text, id, err)
		}
	})
}
