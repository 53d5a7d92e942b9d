package report

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"anycastle/lab/score"
)

// column is one of the table of rows.
type column struct {
	Head, Says string // Says explains it on the page
	cell       func(score.Row) string
	IsNumber   bool
}

// table gives the columns, from the left.
func table() []column {
	figure := func(of score.Measure) func(score.Row) string {
		if of.IsOutage() {
			return func(r score.Row) string { return ms(r.Figure(of)) }
		}
		return func(r score.Row) string { return number(r.Figure(of)) }
	}
	return []column{
		{"fault", "What was broken, or mended again (way back).", func(r score.Row) string { return r.Fault }, false},
		{"outage at the VIP", "From the start of the first new connection to the SMTP VIP that failed to the end of the first good one after the last that failed; where a second or more without a failure is between, that is two outages, which are added up.", figure(score.VIP), true},
		{"by name", "The same for connections to the address that the name's resolver gives.", figure(score.Name), true},
		{"delivery", "The longest that one mailbox got no mail.", figure(score.Delivery), true},
		{"submission", "The longest that one user could send none.", figure(score.Submission), true},
		{"connections broken", "SMTP sessions held open that broke.", figure(score.Broken), true},
		{"IDLE broken", "IMAP sessions in IDLE that broke.", figure(score.Idle), true},
		{"mails lost", "Acknowledged mails that were missing when all mailboxes were read.", figure(score.Lost), true},
		{"mails doubled", "Acknowledged mails that were there more than once.", figure(score.Doubled), true},
		{"who took over", "Who answered at the end, or what the routers say.", func(r score.Row) string { return r.TookOver }, false},
		{"the design promises", "The most that each figure may be.", func(r score.Row) string { return promise(r.Promise) }, false},
		{"result", "Whether all of it was kept.", verdict, false},
	}
}

// Table lays the rows out for a terminal. What a row that failed did not keep stands below.
func Table(rows []score.Row) string {
	columns := table()
	var head, rule []string
	for _, c := range columns {
		head, rule = append(head, c.Head), append(rule, strings.Repeat("-", len(c.Head)))
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	fmt.Fprintln(w, strings.Join(rule, "\t"))
	for _, r := range rows {
		var cells []string
		for _, c := range columns {
			cells = append(cells, strings.Join(strings.Fields(c.cell(r)), " "))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush() // into memory: it cannot fail
	for _, r := range rows {
		if !r.Pass {
			fmt.Fprintf(&b, "FAIL %s: %s\n", r.Fault, r.Why)
		}
	}
	return b.String()
}
