// Package directory knows the mailboxes: their addresses, their password hashes and the LUN that holds each.
//
// Load reads the mailboxes file strictly and once; complaints carry file:line. The front ends ask it whom to accept
// mail for, who may log in and which store to use; the stores ask it which mailboxes are theirs. Passwords are
// argon2id or bcrypt hashes, which HashPassword and Check make and compare.
//
// A Directory does not change. Nothing has to be closed.
package directory
