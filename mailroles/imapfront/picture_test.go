package imapfront

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// picture is a folder as a client knows it from what it has been told.
type picture struct {
	t     testing.TB
	s     *side
	known []known // by sequence number, less one
}

type known struct {
	uid   int // 0: not asked for yet
	flags string
}

var (
	countForm = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT)$`)
	fetchForm = regexp.MustCompile(`^\* (\d+) FETCH \((.*)\)$`)
	uidForm   = regexp.MustCompile(`UID (\d+)`)
	flagsForm = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
)

// hear takes an untagged answer in.
func (p *picture) hear(line string) {
	if m := countForm.FindStringSubmatch(line); m != nil {
		n, _ := strconv.Atoi(m[1])
		switch {
		case m[2] == "EXISTS" && n >= len(p.known):
			p.known = append(p.known, make([]known, n-len(p.known))...)
		case m[2] == "EXPUNGE" && n >= 1 && n <= len(p.known):
			p.known = slices.Delete(p.known, n-1, n)
		case m[2] != "RECENT":
			p.t.Errorf("%q comes with %d messages", line, len(p.known))
		}
	}
	m := fetchForm.FindStringSubmatch(line)
	if m == nil {
		return
	}
	n, _ := strconv.Atoi(m[1])
	if n < 1 || n > len(p.known) {
		p.t.Errorf("%q comes with %d messages", line, len(p.known))
		return
	}
	k := &p.known[n-1]
	if m := uidForm.FindStringSubmatch(m[2]); m != nil {
		uid, _ := strconv.Atoi(m[1])
		if k.uid != 0 && k.uid != uid {
			p.t.Errorf("message %d is %d and was %d", n, uid, k.uid)
		}
		k.uid = uid
	}
	if m := flagsForm.FindStringSubmatch(m[2]); m != nil {
		words := slices.DeleteFunc(strings.Fields(m[1]), func(f string) bool { return f == `\Recent` })
		slices.Sort(words)
		k.flags = strings.Join(words, " ")
	}
}

// learn asks for what is not known yet.
func (p *picture) learn() {
	if first := slices.IndexFunc(p.known, func(k known) bool { return k.uid == 0 }); first >= 0 {
		p.s.write(fmt.Sprintf("f FETCH %d:* (UID FLAGS)\r\n", first+1))
		p.s.answer("f", p.hear)
	}
}
