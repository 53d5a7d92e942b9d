// Package sign is DNSSEC for zones whose answers change with health: replies are signed online, by one combined signing key
// (CSK) per zone.
package sign
