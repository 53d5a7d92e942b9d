// Package mailtest makes what tests of the mail roles need: a certificate authority and certificates signed by it.
//
// Only tests import it. Files live in the test's own temporary folder and go with it.
package mailtest
