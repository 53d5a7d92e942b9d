// Package imapd serves a store's mailboxes over IMAP4rev1 and IMAP4rev2 to the front ends.
//
// A front end has authenticated the user; it proves itself by mutual TLS and names the user with SASL EXTERNAL. Nobody
// else can log in: there is no password here.
//
// Between the client and the library stands a guard, which reads whole commands and gives the library one at a time, as one
// line without literals. So the guard knows when a command begins and ends: it answers what the library does not know (ID)
// or does not survive (lines that are too long or no commands), takes APPEND's message past the library and checks that it
// is whole and alone, ends sessions with BYE between commands, and sends answers together instead of line by line.
//
// Each session has its own view of the selected folder, the list of messages as the client knows it. A view is brought
// up to date with what changed in the folder at the moments when IMAP lets the server speak of changes.
//
// A message is taken apart by offsets into its file, within bounds for depth, parts and headers: mail comes from anyone.
//
// When the LUN is to move to another replica, Hold has front ends take their sessions away between two commands, and bring
// them to the replica that serves then; what is said for that is in package link. A session takes its view along, and the
// client is told of what changed meanwhile as of any other change. A replica that is not the active one, or is not sure of it,
// answers nothing: it says BYE.
//
// \Recent is kept until the store ends; folders have the uses that their names say; a folder has at most 26 keywords.
// CONDSTORE, QRESYNC, MULTIAPPEND, QUOTA and UTF8=ACCEPT are not here.
//
// Run serves until its context ends, and then lets commands end that are under way.
package imapd
