package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
)

// The reasons of a failure.
const (
	ReasonRefused     = "refused"     // the connection was refused
	ReasonReset       = "reset"       // it was reset
	ReasonClosed      = "closed"      // it was closed without a word
	ReasonTimeout     = "timeout"     // no answer in time
	ReasonUnreachable = "unreachable" // a router or the own kernel knows no way
	ReasonBye         = "bye"         // the server said that it goes away: BYE of IMAP, 421 of SMTP
	ReasonTempFail    = "tempfail"    // the server said: not now
	ReasonPermFail    = "permfail"    // the server said: never
	ReasonTLS         = "tls"         // the certificate, or what else there is to TLS
	ReasonDNS         = "dns"         // the DNS answered without an address
	ReasonProtocol    = "protocol"    // an answer that makes no sense
)

// failure is an error whose reason is known where it arose.
type failure struct {
	reason string
	text   string
}

func (f *failure) Error() string { return f.text }

// reason gives the one word for an error of an attempt.
func reason(err error) string {
	var known *failure
	var reply *smtp.SMTPError
	var no *imap.Error
	var netErr net.Error
	switch {
	case errors.As(err, &known):
		return known.reason
	case errors.As(err, &reply):
		return replyReason(reply.Code)
	case errors.As(err, &no):
		return ReasonTempFail
	case isTLS(err):
		return ReasonTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ReasonReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ReasonUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return ReasonTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return ReasonClosed
	}
	return ReasonProtocol
}

// replyReason gives the reason for an SMTP reply that refuses.
func replyReason(code int) string {
	switch {
	case code == 421:
		return ReasonBye
	case code/100 == 4:
		return ReasonTempFail
	case code/100 == 5:
		return ReasonPermFail
	}
	return ReasonProtocol
}

func isTLS(err error) bool {
	var cert *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var host x509.HostnameError
	return errors.As(err, &cert) || errors.As(err, &header) || errors.As(err, &alert) || errors.As(err, &host)
}
