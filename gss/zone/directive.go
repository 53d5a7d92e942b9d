package zone

import (
	"bytes"
	"strings"
)

// directive does what a line that begins with $ says.
func (f *source) directive(text []byte) {
	words, ok := splitWords(text)
	if !ok {
		f.errorf("parentheses and quotes belong to records; write the directive on one line")
		return
	}
	switch strings.ToUpper(words[0]) {
	case "$ORIGIN":
		f.setOrigin(words)
	case "$TTL":
		f.setTTL(words)
	case "$INCLUDE":
		f.include(words)
	case "$GENERATE":
		f.generate(text)
	default:
		f.errorf("%s is no directive; those are $ORIGIN, $TTL, $INCLUDE and $GENERATE", words[0])
	}
}

// splitWords gives the words of a directive, of which a quote makes one of several.
func splitWords(text []byte) (words []string, ok bool) {
	rest := string(bytes.TrimSpace(text))
	for rest != "" {
		var word string
		switch {
		case strings.HasPrefix(rest, `"`):
			if word, rest, ok = strings.Cut(rest[1:], `"`); !ok {
				return nil, false
			}
		default:
			end := strings.IndexAny(rest, " \t\r\n")
			if end < 0 {
				end = len(rest)
			}
			word, rest = rest[:end], rest[end:]
		}
		words = append(words, word)
		rest = strings.TrimSpace(rest)
	}
	return words, len(words) > 0
}

func (f *source) setOrigin(words []string) {
	var n name
	if len(words) != 2 || !n.parse(absolute(words[1], f.origin)) {
		f.errorf("$ORIGIN takes one domain name; write such as $ORIGIN sub.%s", f.b.origin)
		return
	}
	f.origin = absolute(words[1], f.origin)
}

func (f *source) setTTL(words []string) {
	if len(words) == 2 {
		if ttl, ok := parseTTL(words[1]); ok {
			f.ttl, f.fixed = ttl, true
			return
		}
	}
	f.errorf("$TTL takes one time up to %d seconds (RFC 2181 section 8); write such as $TTL 3600", maxTTL)
}

func (f *source) include(words []string) {
	var n name
	origin := f.origin
	if len(words) == 3 {
		origin = absolute(words[2], f.origin)
	}
	switch {
	case len(words) != 2 && len(words) != 3 || words[1] == "" || !n.parse(origin):
		f.errorf("$INCLUDE takes a file and perhaps an origin; write such as $INCLUDE hosts.zone sub")
		return
	case f.depth == maxDepth:
		f.errorf("$INCLUDE goes more than %d files deep; look for a file that includes itself", maxDepth)
		return
	case len(f.b.errs.files) == maxFiles:
		f.errorf("more than %d files are included; put some together", maxFiles)
		return
	}
	path := includePath(f.path, words[1])
	r, err := f.open(path)
	if err != nil {
		f.errorf("$INCLUDE: %v; mend the path, which is relative to this file", err)
		return
	}
	defer r.Close()
	at := pos{file: uint16(len(f.b.errs.files))}
	f.b.errs.files = append(f.b.errs.files, path)
	in := *f
	in.path, in.at, in.depth, in.origin = path, at, f.depth+1, origin
	if err := in.read(r); err != nil {
		f.errorf("$INCLUDE: %v; mend the file", err)
	}
}

func (f *source) generate(text []byte) {
	fields := bytes.SplitN(bytes.TrimSpace(text), []byte{' '}, 2) // a tab will do as well
	if tab := bytes.IndexByte(fields[0], '\t'); tab >= 0 {
		fields = [][]byte{fields[0][:tab], bytes.TrimSpace(text)[tab+1:]}
	}
	if len(fields) < 2 {
		f.errorf("$GENERATE has no range; write such as $GENERATE 1-100 host$ A 192.0.2.$")
		return
	}
	rest := string(bytes.TrimLeft(fields[1], " \t"))
	space := strings.IndexAny(rest, " \t")
	if space < 0 {
		space = len(rest)
	}
	g, err := newGenerator(rest[:space], strings.TrimLeft(rest[space:], " \t"))
	if err != nil {
		f.errorf("$GENERATE: %v", err)
		return
	}
	var entry []byte
	before := len(f.b.errs.list)
	for i := g.start; i <= g.stop && len(f.b.errs.list) == before; i += g.step { // more would repeat the first error
		if entry, err = g.entry(entry[:0], i); err != nil {
			f.errorf("$GENERATE: %v", err)
			return
		}
		if entry[0] == '$' { // the library would take it for a directive
			f.errorf("$GENERATE: %s is no record; it begins with $", entry)
			return
		}
		f.record(append(entry, '\n'))
	}
}
