// Package tally counts what a mail role does: open sessions, things done, refusals by reason, and how long each leg of the
// work takes.
//
// The servers count, the role turns the counts into its status and its metrics. The package knows neither, and
// nothing has to be closed.
package tally
