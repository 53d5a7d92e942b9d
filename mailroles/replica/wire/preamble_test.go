package wire

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePreamble(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		want       preamble // zero: an error
	}{
		{"good", "anycastle-replica 1 lun-east body east-store1 7", preamble{"lun-east", Body, "east-store1", 7}},
		{"largest era", "anycastle-replica 1 l raft a 18446744073709551615", preamble{"l", Raft, "a", 1<<64 - 1}},
		{"era too large", "anycastle-replica 1 l raft a 18446744073709551616", preamble{}},
		{"negative era", "anycastle-replica 1 l raft a -1", preamble{}},
		{"no era", "anycastle-replica 1 l raft a", preamble{}},
		{"another version", "anycastle-replica 2 l raft a 1", preamble{}},
		{"unknown kind", "anycastle-replica 1 l mail a 1", preamble{}},
		{"no LUN", "anycastle-replica 1  raft a 1", preamble{}},
		{"more", "anycastle-replica 1 l raft a 1 2", preamble{}},
		{"control character", "anycastle-replica 1 l\t raft a 1", preamble{}},
		{"carriage return", "anycastle-replica 1 l raft a 1\r", preamble{}},
		{"name too long", "anycastle-replica 1 " + strings.Repeat("l", maxToken+1) + " raft a 1", preamble{}},
		{"empty", "", preamble{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parsePreamble(tc.line)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if (err != nil) != (tc.want == preamble{}) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// FuzzPreamble has what is read be what was said, and no octet after the line be lost.
func FuzzPreamble(f *testing.F) {
	for _, seed := range []string{
		"anycastle-replica 1 lun-east body east-store1 7\nrest", "anycastle-replica 1 l raft a 0\n", "no x\n", "ok\nok\n", "\n", "",
		"anycastle-replica 1 l hello a 007\n", strings.Repeat("x", maxLine+1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		line, err := readLine(r)
		if err != nil {
			return
		}
		if rest, _ := io.ReadAll(r); line+"\n"+string(rest) != string(data) || len(line) >= maxLine {
			t.Fatalf("line %q and rest %q of %q", line, rest, data)
		}
		_ = parseAnswer(line)
		p, err := parsePreamble(line)
		if err != nil {
			return
		}
		if !isToken(p.LUN) || !isToken(p.From) || strings.ContainsAny(p.String(), "\r\n") {
			t.Fatalf("%+v of %q", p, line)
		}
		if again, err := parsePreamble(p.String()); err != nil || again != p {
			t.Fatalf("%+v, %v from %+v", again, err, p)
		}
	})
}
