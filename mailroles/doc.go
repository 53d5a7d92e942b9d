// Package mailroles is the mail roles of a node: smtp (the MX), submission, imap (the IMAP front end), store, witness and
// monitor.
//
// The front ends keep no mail. smtp takes messages for known mailboxes and hands each to the store of the mailbox's LUN
// over LMTP before it answers 250; submission takes them from users who log in, for mailboxes and for elsewhere; imap checks
// passwords and joins a client to its store. The store keeps the mail of a LUN as Maildir++ and serves LMTP and IMAP to
// the front ends, over mutual TLS only. Where the LUN has a queue, the store also keeps mail of its users for other sites, and
// sends it.
//
// A LUN is kept by one store alone, or by replicas on servers at two sites: then a store is a process that has a replica of
// each LUN that names it, and serves those whose active replica is here, at the LUN's own addresses, which the caller's
// Identity takes and announces. A witness votes for LUNs and has no mail; it is no Role, for it has nothing to drain.
//
// cmd/anycastle makes one role with NewSMTP, NewSubmission, NewIMAP or NewStore and calls Run, which holds all that the role
// opened and gives it back when it returns; beside it runs the role's Directory, which the caller closes after. A role that
// is told to stop drains first, and so it does on an order; a store hands its LUNs over before. NewWitness makes a witness,
// which only runs.
//
// The roles are made of the packages below. By the way of a message:
//
//	accept, drain      connections and PROXY headers; out of service without breaking off
//	smtpd              SMTP and LMTP: sessions, and what becomes of a message with many recipients
//	screen             who is let in: limits of a source, greet delay, block lists
//	judge, milter      SPF, DKIM and DMARC; filters of others
//	submission         what users may send, and DKIM signatures; throttle slows down guesses at passwords
//	directory          mailboxes, aliases, groups, from a file or LDAP
//	link               from the front ends to the stores
//	store, maildir     the mail of a LUN: a log of operations, and the tree that it leads to; spool holds bodies on their way
//	replica            one replica of a LUN: which is active, what may be acknowledged; its log is the group's
//	queue              mail for other sites; mtasts knows their policies, and serves ours
//	imapfront, imapd   IMAP until login, and then at the store
//	tally, resolver    counts and times; DNS as it is asked by screen and judge
//
// Beside them stands monitor, which probes whatever it is told to and knows none of the others.
package mailroles
