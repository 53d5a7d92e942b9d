// Package mailroles is the mail roles of a node: smtp (the MX), submission, imap (the IMAP front end) and store.
//
// The front ends keep no mail. smtp takes messages for known mailboxes and hands each to the store of the mailbox's LUN
// over LMTP before it answers 250; submission takes them from users who log in, for mailboxes and for elsewhere; imap checks
// passwords and joins a client to its store. The store keeps the mail of one LUN as Maildir++ and serves LMTP and IMAP to
// the front ends, over mutual TLS only. Where the LUN has a queue, the store also keeps mail of its users for other sites, and
// sends it.
//
// cmd/anycastle makes one role with NewSMTP, NewSubmission, NewIMAP or NewStore and calls Run, which holds all that the role
// opened and gives it back when it returns; there is nothing else to close. What the protocols do is in the packages below:
// smtpd, submission, imapfront and imapd; filters that smtp asks are in milter, and the connections to stores in link; the
// mail itself is in store, and what leaves in queue. Monitoring and the replication of stores are not here.
package mailroles
