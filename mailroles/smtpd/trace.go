package smtpd

import (
	"fmt"
	"strings"
	"time"
)

// received writes the trace field with an id (RFC 5321 section 4.4, RFC 6531 section 4.3).
func (f *Front) received(env *Envelope, id string, at time.Time) string {
	literal := env.Client.Addr.String()
	if env.Client.Addr.Is6() {
		literal = "IPv6:" + literal
	}
	with := "ESMTP"
	if env.Options.UTF8 {
		with = "UTF8SMTP"
	}
	if env.TLS {
		with += "S"
	}
	return fmt.Sprintf("Received: from %s ([%s])\r\n\tby %s with %s id %s;\r\n\t%s\r\n",
		cleanHelo(env.Helo), literal, f.Hostname, with, id, at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// cleanHelo keeps a client from writing more than a name into the trace.
func cleanHelo(helo string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r) {
			return r
		}
		return -1
	}, helo)
	if clean == "" || len(clean) > 255 {
		return "unknown"
	}
	return clean
}

// maxReason is how much of a filter's reason goes into a field, in bytes.
const maxReason = 200

// heldField says in the message why it is kept apart; nothing when it is not.
func heldField(reason string) string {
	if reason == "" {
		return ""
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, reason)
	return "X-Quarantine: " + strings.TrimSpace(clean[:min(len(clean), maxReason)]) + "\r\n"
}
