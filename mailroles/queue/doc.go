// Package queue keeps mail for other sites until their hosts have it, and tells senders what became of it.
//
// Handler takes messages over LMTP and answers when a message and its envelope are on disk. Run looks up where each
// destination's mail goes (package mx), keeps to its MTA-STS policy, and sends (package remote): at once, and then after a
// time that doubles up to a limit, until the message's life ends. Recipients are kept apart: each is delivered, or fails, on
// its own. Senders get a report (DSN, RFC 3464) of what failed, once of a delay, and of what they asked for; a sender with a
// mailbox of ours finds it there, another gets it through the queue. A report has no sender, so none is made about it.
//
// What is durable about a queue is behind Keeper. The store of a replicated LUN is one: there each change of an entry is an
// operation of the LUN's log, and another process may get the queue at any time. Then nothing more is sent from here: an attempt
// that is under way ends before the message does, and only one whose end the host has seen may be made again.
//
// Without another keeper a queue is a folder. body/ID is a message, written and fsynced first; entry/ID its envelope: the message is ours from when
// that is durable, and each change of it replaces the file as a whole. When all is done the envelope moves to done/ID, where
// it is kept for some hours to recognise by its id a transaction that is repeated to those who have it, and the body goes. On
// opening, what is damaged, and what a crash left of messages that were not taken, moves to set-aside/, is logged, and holds
// nothing up. Nothing there is deleted.
//
// A host that takes a message and loses the connection before it says so gets the message again: SMTP cannot tell (RFC 5321
// section 6.1), and a copy too many is better than none. The same holds for a process that dies between the host's reply and
// its own disk. A policy in mode testing (RFC 8461) changes nothing, and nobody is sent TLS reports.
//
// Envelopes are in memory, as many as Config.MaxRecipients allows; bodies never are. All bounds are in Config or constants.
package queue
