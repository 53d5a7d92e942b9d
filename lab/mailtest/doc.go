// Package mailtest looks at the mail roles through programs of others, from Debian's packages: senders (swaks, curl, Python's
// smtplib, smtp-source), readers (curl, Python's imaplib, mbsync, mutt, fetchmail) and what a mail site runs beside us. The
// roles are processes of the built binary. Each test has a namespace of its own in which everything listens on loopback.
//
// `make test-mail` runs it.
package mailtest
