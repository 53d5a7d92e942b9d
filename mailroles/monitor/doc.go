// Package monitor is the role that watches: it probes a list of targets, such as VIPs, reals, selectors and the service
// addresses of LUNs, and tells Prometheus and people how they are.
//
// It changes nothing and knows no other role: what answers is well. The service address of a LUN is a target like any
// other, so a LUN has one name in monitoring, whichever store is active. Every change of a target's state is logged.
//
// New makes a Monitor and Run probes until its context ends. Reload takes another config while it runs: a target that
// stays keeps its state and its counts. Whoever has the process serves /metrics and the rest on the role's own socket;
// where the config says so, the Monitor serves them over mutual TLS as well. Nothing has to be closed.
package monitor
