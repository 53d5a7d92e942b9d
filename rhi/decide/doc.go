// Package decide is the decision engine of route health injection: which VIPs a site announces, how strongly, and why.
//
// It is pure. Next takes what was decided before, all that is known, and the time, and gives what is to be done; it does
// no I/O, starts nothing and keeps nothing. It is to be called when an input changes and at Decisions.Deadline. Explain
// says the same in rows of text, and WhatIf says it for a change that has not happened. The caller announces and
// withdraws, then tells the other sites the Report, in that order; and keeps the State, which may be lost.
//
// A "site" is whoever decides by itself: if each balancer of a data centre does, each is a site here.
//
// # The ladder
//
// A VIP stands at a place: full, degraded, draining, parked, last or withdrawn. Each group of peers maps places to rungs
// of its own ladder, from 0 (announced plainly) by way of MED, prepends and communities to GSHUT (RFC 8326), and then
// Withdrawn. Down is at once, up must wait. A VIP is at the top when these gates hold: enough reals are in service, the
// lease of the health engine is fresh (3s), the learn time (10s) is over, and no order is against it.
//
// "Cannot be checked" is not "is down": what was known last counts on, nothing rises, and the site makes no new promises.
// Only a health engine that does not even say that it cannot check is taken for a hung one.
//
// # Never all withdrawn
//
// A site withdraws a VIP for health, or by an order without force, only while a fresh report (5s) of another site says
// that it announces the VIP, is healthy, and holds: has granted the request to be let go that stands in the own report
// under Report.Want. Our own BGP tables, if they can tell, must have the other's route. Else the VIP stays at the end of the
// ladder, where traffic comes only if nobody else announces, and says so. One that is withdrawn comes back there as soon
// as this no longer is so; if nothing is heard, the other's route in the BGP tables is enough to stay.
//
// The promise to hold has no end but that the request is taken back, so that no delay, loss or reordering of reports can
// break it. The argument, for any number of sites: draw an arrow from X to Y when Y has granted, ever, the request that
// X has now. Y grants only while it has no request itself, so at that moment no arrow leaves Y, and the new one
// closes no circle; taking a request back, or making a new one with a number that was never used, only removes arrows. So
// there never is a circle. A site that is withdrawn has an arrow that leaves it, as it saw the grant of its request, and
// takes the request back only while it is announced. Follow arrows from any site: they end, at a site that no arrow
// leaves, and which therefore is not withdrawn for health or by an order without force. A process that restarts has no
// request, so old grants are void whatever state it finds; numbers are times, and above all that it or the others
// remember. What the argument does not cover is a site that is gone for another reason: its process died, has just
// started, or was withdrawn by force. The others then come back as soon as they hear of it, or hear nothing.
//
// Who fails first should not have to ask first. So of the sites that carry a VIP, in the order of primaries, backups and
// then names, all but the last make their requests beforehand, and the last holds for them; they take them back when
// another is in need and nobody else could hold for that one. A site whose request is not granted yet goes to the end of
// the ladder meanwhile.
//
// At most 4 VIPs are withdrawn for health within a minute (Config.Cap); the rest are held as degraded, with an alarm,
// those that wait longest going first.
//
// # Flaps
//
// Each fall of health doubles a hold-down of 10s, to 5m at most, for which health must last before the VIP rises; each
// 5m of calm halve it. Besides, every change that peers see is entered in an account as an upstream would keep it (RFC
// 2439): 1000 for a withdraw, 500 for a change of attributes, also for those by order, and a restart counts as a withdraw;
// half of it is forgotten in 15m. A change for health that would bring the account to 1500 parks the VIP instead, low on
// the ladder, where it stays whatever health says until the account is down to 750. So changes for health never bring it
// to 2000, at which a common upstream would damp the VIP for up to an hour.
//
// A VIP that comes back while another site has the traffic is announced at the end of the ladder first, stays there until
// that site sees its route and for 30s (Config.Failback), and only then takes its place. It keeps what it was promised
// until it has it. With Config.ManualFailback a primary waits for an order to activate, which also forgives its flaps.
//
// A drain goes to its rung at once, stays there for 10s at least (routers need time) and until no flow is left or the
// deadline passes (10m), and is withdrawn as soon as another site holds.
package decide
