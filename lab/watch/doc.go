// Package watch looks at a running lab from outside, and shows it: what `anycastle lab watch` prints.
//
// It has three parts. A Collector asks every role of every node over its status socket, which it reaches through the
// root of the node's init in /proc, so that no process is started; it reads the kernel for nodes and links, and the
// nodes' logs for events. What it finds becomes one State, which is plain data. Render lays a State out as text of a
// given size: a pure function, with or without colours. Run is the terminal program around the two, with keys and a
// menu to break and heal things by hand; what those do is the business of lab/fault.
//
// The JSON of State is for scripts: its keys stay. The package knows no role's types, only the keys of what roles
// answer; what it does not find it leaves empty.
package watch
