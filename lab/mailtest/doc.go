// Package mailtest looks at the mail roles through programs of others, from Debian's packages: senders (swaks, curl, Python's
// smtplib, smtp-source, msmtp), readers (curl, Python's imaplib, mbsync, mutt, fetchmail) and what a mail site runs beside us:
// filters (rspamd, ClamAV), a directory (slapd), peers (smtp-sink, Postfix) and a reader of the same tree (Dovecot). DNS is our
// own gss. The roles are processes of the built binary. Each test has a namespace of its own in which everything listens on
// loopback.
//
// `make test-mail` runs it.
package mailtest
