package queue

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"anycastle/mailroles/link"
)

// kind of a report.
type kind string

// The kinds, by their word in Action fields (RFC 3464 section 2.3.3).
const (
	failed    kind = "failed"
	delayed   kind = "delayed"
	relayed   kind = "relayed"
	delivered kind = "delivered"
)

const (
	// smallMessage is up to which size in bytes a message that failed is given back whole unless the sender says otherwise.
	smallMessage = 50_000
	// maxHeader is the most of a header that a report has, in bytes.
	maxHeader = 128 << 10
)

// subject is what a report is about.
type subject struct {
	from, envID, ret string
	arrived          time.Time
	size             int64
	eightBit         bool
	open             func() (io.ReadCloser, error)
}

// report is a delivery status notification: an RFC 3464 report between a head and a tail, with the message or its header between.
type report struct {
	head, tail []byte
	whole      func() (io.ReadCloser, error) // nil: the header is part of head
	size       int64
	eightBit   bool
	utf8       bool
}

// reporter writes reports.
type reporter struct {
	hostname string
	life     time.Duration
}

// make writes a report of a kind about some recipients.
func (p reporter) make(k kind, s subject, to []*recipient, now time.Time) (*report, error) {
	r := &report{eightBit: s.eightBit}
	for _, is := range to {
		r.utf8 = r.utf8 || !isASCII(is.Address)
	}
	r.utf8 = r.utf8 || !isASCII(s.from)
	r.eightBit = r.eightBit || r.utf8
	boundary := "=_" + rand.Text()
	var b bytes.Buffer
	p.header(&b, k, s, boundary, r, now)
	p.text(&b, k, to, r.utf8)
	fmt.Fprintf(&b, "--%s\r\n", boundary)
	p.status(&b, k, s, to, r.utf8)
	fmt.Fprintf(&b, "--%s\r\n", boundary)
	if k == failed && s.ret != "HDRS" && (s.ret == "FULL" || s.size <= smallMessage) {
		part := "message/rfc822"
		if r.utf8 {
			part = "message/global"
		}
		partHeader(&b, part, r.encoding(), "The message")
		r.whole, r.size = s.open, s.size
	} else if err := headerPart(&b, s, r); err != nil {
		return nil, err
	}
	r.head = b.Bytes()
	r.tail = fmt.Appendf(nil, "\r\n--%s--\r\n", boundary)
	r.size += int64(len(r.head) + len(r.tail))
	return r, nil
}

// encoding is what parts with bytes of the message are declared as.
func (r *report) encoding() string {
	if r.eightBit {
		return "8bit"
	}
	return "7bit"
}

// ownEncoding is what parts without bytes of the message are declared as. What peers said is ASCII.
func ownEncoding(utf8 bool) string {
	if utf8 {
		return "8bit"
	}
	return "7bit"
}

// body opens the whole report.
func (r *report) body() (io.ReadCloser, error) {
	if r.whole == nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(r.head), bytes.NewReader(r.tail))), nil
	}
	middle, err := r.whole()
	if err != nil {
		return nil, err
	}
	return &joined{Reader: io.MultiReader(bytes.NewReader(r.head), middle, bytes.NewReader(r.tail)), Closer: middle}, nil
}

type joined struct {
	io.Reader
	io.Closer
}

// titles are subjects by kind.
var titles = map[kind]string{
	failed:    "Undelivered mail returned to sender",
	delayed:   "Mail is delayed",
	relayed:   "Mail was passed on",
	delivered: "Mail was delivered",
}

// header writes the report's own header (RFC 3461 section 6.2, RFC 6522).
func (p reporter) header(b *bytes.Buffer, k kind, s subject, boundary string, r *report, now time.Time) {
	status := "delivery-status"
	if r.utf8 {
		status = "global-delivery-status"
	}
	fmt.Fprintf(b, "From: Mail Delivery System <mailer-daemon@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n",
		p.hostname, link.Path(s.from), titles[k], now.Format(time.RFC1123Z), strings.ToLower(rand.Text()), p.hostname)
	fmt.Fprintf(b, "MIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\nContent-Transfer-Encoding: %s\r\n", r.encoding())
	fmt.Fprintf(b, "Content-Type: multipart/report; report-type=%s;\r\n\tboundary=%q\r\n\r\n--%s\r\n", status, boundary, boundary)
}

// text writes the part for people.
func (p reporter) text(b *bytes.Buffer, k kind, to []*recipient, utf8 bool) {
	fmt.Fprintf(b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n", ownEncoding(utf8))
	fmt.Fprintf(b, "This is the mail system at %s.\r\n\r\n", p.hostname)
	switch k {
	case failed:
		b.WriteString("Your message could not be delivered to the recipients below. They do not have it,\r\n" +
			"and it is not tried any more.\r\n")
	case delayed:
		fmt.Fprintf(b, "Your message could not be delivered to the recipients below yet. You need not send it\r\n"+
			"again: it is tried for %v in all.\r\n", p.life)
	case relayed:
		b.WriteString("Your message was passed on to servers that do not tell what becomes of it.\r\n")
	case delivered:
		b.WriteString("Your message was delivered to the recipients below.\r\n")
	}
	b.WriteString("\r\n")
	for _, r := range to {
		fmt.Fprintf(b, "<%s>", link.Path(r.Address))
		if why := r.reply(); why.Code != 0 {
			if r.State == Expired {
				b.WriteString(": it was tried for too long; at last")
			}
			fmt.Fprintf(b, ": %s", said(r))
		}
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
}

// said tells the last reply and whose it was.
func said(r *recipient) string {
	if r.Host == "" {
		return r.reply().String()
	}
	return r.Host + " said: " + r.reply().String()
}

// status writes the part for programs (RFC 3464 section 2, RFC 6533).
func (p reporter) status(b *bytes.Buffer, k kind, s subject, to []*recipient, utf8 bool) {
	part, addressType := "message/delivery-status", "rfc822"
	if utf8 {
		part, addressType = "message/global-delivery-status", "utf-8"
	}
	fmt.Fprintf(b, "Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n", part, ownEncoding(utf8))
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", p.hostname)
	if s.envID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", s.envID)
	}
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", s.arrived.Format(time.RFC1123Z))
	for _, r := range to {
		b.WriteString("\r\n")
		if kind, address, ok := strings.Cut(r.ORcpt, ";"); ok {
			fmt.Fprintf(b, "Original-Recipient: %s; %s\r\n", kind, address)
		}
		fmt.Fprintf(b, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %s\r\n", addressType, link.Path(r.Address), k, statusOf(k, r))
		if r.Host != "" {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", r.Host)
		}
		if r.Host != "" && r.Code != 0 {
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", r.reply().String())
		} else if r.Last != "" {
			fmt.Fprintf(b, "Diagnostic-Code: x-anycastle; %s\r\n", r.Last)
		}
		if !r.At.IsZero() {
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", r.At.Format(time.RFC1123Z))
		}
		if k == delayed {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", s.arrived.Add(p.life).Format(time.RFC1123Z))
		}
	}
	b.WriteString("\r\n")
}

// statusOf gives the status code of a recipient (RFC 3463).
func statusOf(k kind, r *recipient) string {
	class := map[kind]string{failed: "5", delayed: "4", relayed: "2", delivered: "2"}[k]
	switch {
	case r.State == Expired:
		return "4.4.7" // RFC 3463 section 3.5: what ended is the time
	case strings.HasPrefix(r.Status, class+"."):
		return r.Status
	}
	return class + ".0.0"
}

func partHeader(b *bytes.Buffer, kind, encoding, what string) {
	fmt.Fprintf(b, "Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\nContent-Description: %s\r\n\r\n", kind, encoding, what)
}

// headerPart writes the message's header.
func headerPart(b *bytes.Buffer, s subject, r *report) error {
	part := "text/rfc822-headers"
	if r.utf8 {
		part = "message/global-headers"
	}
	partHeader(b, part, r.encoding(), "The message's header")
	body, err := s.open()
	if err != nil {
		return fmt.Errorf("read message for a report: %w", err)
	}
	lines := bufio.NewReader(io.LimitReader(body, maxHeader))
	for {
		line, err := lines.ReadBytes('\n')
		if text := bytes.TrimRight(line, "\r\n"); len(text) == 0 || err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(unlessEOF(err), body.Close())
		}
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteString("\r\n")
	}
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
