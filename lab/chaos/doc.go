// Package chaos breaks replicated stores at random and checks that nothing that was acknowledged is lost.
//
// The checker (History, ReadTree, Verdict, TwoActive) is plain code without root: clients tell it of each delivery, append, flag
// change, expunge, move and copy, and how it ended; at the end it is given what the replicas hold. An operation that was
// acknowledged must show; one whose end nobody knows (no answer, or a temporary refusal) may show or not, and its message is left
// alone from then on. Each message carries a Message-ID of its own and the SHA-256 of its body, so that a reader can tell what it
// has before it.
//
// The runner is in the tests: two sites and a witness, each with processes of the built binary in namespaces, joined by routers
// that speak BGP, with each store on a small file system of its own. `make chaos SEED=n MINUTES=m` runs it; `go test ./lab/chaos`
// does for two minutes. Faults are drawn from a seed: kill -9, SIGSTOP, partition full and one-way, disk full, failing fsync, file
// truncated, bit flipped, clock jump, site cut, witness cut, and two at once. The processes and the machine are real, so the same
// seed gives the same faults but not the same history.
//
// The rule that the faults keep: what destroys data (a failing fsync, a truncated file, a flipped bit) strikes one replica at a
// time, and the next only when all replicas hold everything again. If the only two replicas that must hold a message by contract
// lost it at the same moment, no program could have it. All else may coincide.
package chaos
