// Package tally counts what a mail role does: open sessions, things done, and refusals by reason.
//
// The servers count, the role turns the counts into its status and its metrics. The package knows neither, and
// nothing has to be closed.
package tally
