// Package repotest holds the rules of the house as tests: who may import whom, what stands at the top of the tree,
// that every package says what it is, and that what README shows works. It has no code of its own.
package repotest
