// Package balancer is how a site selector learns from load balancers.
//
// A Set holds one connection with mutual TLS to each of our balancers, which tell how their VIPs stand (package
// internal/vipreport): as soon as something changes, and all of it each second. Other balancers, such as HAProxy's
// neighbours, are asked by the agent-check protocol: Agents does that, with the probe of that type.
//
// Both give reports as package decide takes them, each with the time when it was heard. What a balancer said last stays,
// and ages: whoever decides says how long it counts. A balancer that is not heard is therefore neither out nor in service;
// it says nothing.
//
// Run of either owns all that it starts and ends with its context. Nothing has to be closed.
package balancer
