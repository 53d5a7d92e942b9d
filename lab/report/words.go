package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"anycastle/lab/score"
)

func number(n int64) string { return strconv.FormatInt(n, 10) }

// count writes a number with its word.
func count(n int64, word string) string { return number(n) + " " + word }

// ms writes an outage: none, 343 ms, 2.86 s.
func ms(n int64) string {
	switch {
	case n == 0:
		return "none"
	case n < 1000:
		return fmt.Sprintf("%d ms", n)
	case n < 100_000:
		return fmt.Sprintf("%.2f s", float64(n)/1000)
	}
	return fmt.Sprintf("%d s", n/1000)
}

// offset writes a time relative to the fault.
func offset(d time.Duration) string { return fmt.Sprintf("%+.3f s", d.Seconds()) }

// promise puts what the design promises in words: "VIP ≤ 1 s, name ≤ 8 s, 0 lost".
func promise(text string) string {
	p, err := score.ParsePromise(text)
	if err != nil {
		return text // of a later version of the rows
	}
	var terms []string
	for _, t := range p {
		switch {
		case !t.Of.IsOutage():
			terms = append(terms, fmt.Sprintf("%s %s", most(t.Most), t.Of))
		case t.Most == 0:
			terms = append(terms, fmt.Sprintf("%s no outage", outageWord(t.Of)))
		default:
			terms = append(terms, fmt.Sprintf("%s ≤ %s", outageWord(t.Of), seconds(t.Most)))
		}
	}
	return strings.Join(terms, ", ")
}

func most(n int64) string {
	if n == 0 {
		return "0"
	}
	return "≤ " + number(n)
}

func outageWord(m score.Measure) string {
	if m == score.VIP {
		return "VIP"
	}
	return string(m)
}

// seconds writes a promised time without noughts.
func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64) + " s" }

// verdict is the last column.
func verdict(r score.Row) string {
	if r.Pass {
		return "pass"
	}
	return "FAIL"
}

// shorten cuts a text.
func shorten(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// mebibytes writes memory.
func mebibytes(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
