package link

// What an IMAP front end and a store say to each other beyond IMAP, so that a session can move to another store of its LUN
// while its client notices nothing. None of it is ever passed on to a client.
//
// A store offers it in the capabilities of its greeting, and a front end takes it up before it logs in, with HoldCommand.
// From then on the store may say HoldLine between any two answers. When no command is without its answer, the front end asks
// for the session with DetachCommand: the store answers with StateResponse and a literal, and ends. The front end logs in at
// the LUN's address again, and before that hands the literal over with AttachCommand. That is answered after the login.
const (
	HoldCommand   = "ANYCASTLE-HOLD"
	DetachCommand = "ANYCASTLE-DETACH"
	AttachCommand = "ANYCASTLE-ATTACH"
	StateResponse = "ANYCASTLE-STATE"
	HoldLine      = "* OK [ANYCASTLE-HOLD] Session is to move\r\n"
	// MaxState is the most bytes of the literal, enough for a folder of a million messages with gaps.
	MaxState = 16 << 20
)
