package zone

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxGenerate is how many records one $GENERATE may make.
const maxGenerate = 1 << 16

// generator is a $GENERATE directive of BIND: START-STOP[/STEP] and a record with $ for the number. miekg/dns has one
// too, which gives its records a TTL of an hour whatever $TTL says.
type generator struct {
	start, stop, step int64
	template          string
}

func newGenerator(span, template string) (*generator, error) {
	g := &generator{step: 1, template: template}
	between, step, stepped := strings.Cut(span, "/")
	start, stop, ok := strings.Cut(between, "-")
	var err [3]error
	g.start, err[0] = strconv.ParseInt(start, 10, 32)
	g.stop, err[1] = strconv.ParseInt(stop, 10, 32)
	if stepped {
		g.step, err[2] = strconv.ParseInt(step, 10, 32)
	}
	switch {
	case !ok || errors.Join(err[:]...) != nil || g.start < 0 || g.stop < g.start || g.step < 1:
		return nil, fmt.Errorf("%q is no range; write START-STOP or START-STOP/STEP, such as 1-100", span)
	case (g.stop-g.start)/g.step >= maxGenerate:
		return nil, fmt.Errorf("the range %s has more than %d numbers; write smaller ranges", span, maxGenerate)
	case strings.TrimSpace(template) == "":
		return nil, errors.New("no record after the range; write such as $GENERATE 1-100 host$ A 192.0.2.$")
	}
	// BIND takes data of several words, such as `MX "10 mail$"`, only in quotes, which are not part of it
	text := strings.TrimRight(template, " \t\r\n")
	if first := strings.Index(text, ` "`); first > 0 && strings.HasSuffix(text, `"`) && strings.Count(text, `"`) == 2 {
		g.template = text[:first+1] + text[first+2:len(text)-1]
	}
	return g, nil
}

// entry appends the record of number i.
func (g *generator) entry(to []byte, i int64) ([]byte, error) {
	t := g.template
	for at := 0; at < len(t); at++ {
		switch {
		case t[at] == '\\' && at+1 < len(t) && t[at+1] == '$':
			to = append(to, '$')
			at++
		case t[at] == '\\' && at+1 < len(t):
			to = append(to, t[at], t[at+1])
			at++
		case t[at] != '$':
			to = append(to, t[at])
		case at+1 < len(t) && t[at+1] == '$':
			to = append(to, '$')
			at++
		case at+1 < len(t) && t[at+1] == '{':
			end := strings.IndexByte(t[at:], '}')
			if end < 0 {
				return nil, errors.New("${ is not closed; write such as ${0,3,d}")
			}
			var err error
			if to, err = modified(to, t[at+2:at+end], i); err != nil {
				return nil, err
			}
			at += end
		default:
			to = strconv.AppendInt(to, i, 10)
		}
	}
	return to, nil
}

// modified appends a number as OFFSET[,WIDTH[,BASE]] says.
func modified(to []byte, modifier string, i int64) ([]byte, error) {
	bad := fmt.Errorf("${%s} is none of ${OFFSET}, ${OFFSET,WIDTH} and ${OFFSET,WIDTH,BASE} with a base of d, o, x, X, n or N",
		modifier)
	fields := strings.Split(modifier, ",")
	if len(fields) > 3 {
		return nil, bad
	}
	offset, err := strconv.ParseInt(fields[0], 10, 32)
	if err != nil {
		return nil, bad
	}
	i += offset
	if i < 0 {
		return nil, fmt.Errorf("${%s} makes a number below 0; begin the range later", modifier)
	}
	width, base := 0, "d"
	if len(fields) > 1 {
		w, err := strconv.ParseUint(fields[1], 10, 8)
		if err != nil {
			return nil, bad
		}
		width = int(w)
	}
	if len(fields) > 2 {
		base = fields[2]
	}
	switch base {
	case "d", "o", "x", "X":
		return fmt.Appendf(to, "%0*"+base, width, i), nil
	case "n", "N":
		return nibbles(to, width, base == "N", i), nil
	}
	return nil, bad
}

// nibbles appends hexadecimal digits from the lowest with dots between, as in ip6.arpa; width counts the dots too.
func nibbles(to []byte, width int, upper bool, i int64) []byte {
	digits := "0123456789abcdef"
	if upper {
		digits = "0123456789ABCDEF"
	}
	for {
		to = append(to, digits[i&15])
		i >>= 4
		width -= 2
		if i == 0 && width <= 0 {
			return to
		}
		to = append(to, '.')
	}
}
