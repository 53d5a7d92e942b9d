// Package directory knows the mailboxes, aliases and groups: who may log in, where mail for an address goes, which LUN holds
// a mailbox and how much it may hold.
//
// A Directory asks a mailboxes file or LDAP servers. The front ends ask it whom to accept mail for and who may log in, the
// submission service who may send as whom, the stores which mailboxes are theirs. ErrUnknown and ErrLogin are answers; any
// other error says that it cannot tell now, and is to become a temporary one. Addresses are compared in the form that
// Normalize gives; alice+tag@ is alice@ unless it is an address of its own.
//
// The file is read strictly, with file:line in complaints: addresses are there once, aliases and groups lead to addresses of
// the file, and not in circles. Run reads it again when it has changed, as Reload does at once; a file that is wrong, gone or
// being written takes the place of nothing, and Status says why. Questions are answered from memory meanwhile. Change edits
// the file.
//
// LDAP is searched by filter, with connections that are kept, time-outs, and fail-over from server to server. A user logs in
// by a bind. Answers are remembered for a while; those about recipients are given for a longer while when no server can be
// asked, and those about users and their rights never are. SCRAM needs an attribute with keys.
//
// Passwords are argon2id or bcrypt hashes, which HashPassword and Check make and compare, with keys for SCRAM-SHA-256 beside
// them. No error and no log has any of these, nor a password.
//
// A Directory of LDAP has to be closed, after Run has ended.
package directory
