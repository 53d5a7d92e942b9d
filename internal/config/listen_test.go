package config

import "testing"

var listenAddrs = map[string]string{ // "" in the second place: refused
	":25":                 ":25",
	"203.0.113.10:25":     "203.0.113.10:25",
	"[2001:db8::1]:65535": "[2001:db8::1]:65535",
	":0":                  "",
	"25":                  "",
	":65536":              "",
	"example.org:25":      "",
	"2001:db8::1:25":      "",
}

func TestListenAddr(t *testing.T) {
	for text, want := range listenAddrs {
		var l ListenAddr
		switch err := l.UnmarshalText([]byte(text)); {
		case want == "" && err == nil:
			t.Errorf("%q is taken as %s", text, l)
		case want != "" && (err != nil || l.String() != want):
			t.Errorf("%q is taken as %s, %v", text, l, err)
		}
	}
}

// FuzzListenAddr checks that what is taken is written as something that is taken as the same.
func FuzzListenAddr(f *testing.F) {
	for text := range listenAddrs {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l, again ListenAddr
		if l.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(l.String())); err != nil || again != l {
			t.Errorf("%q is taken as %s, which is taken as %s, %v", text, l, again, err)
		}
	})
}
