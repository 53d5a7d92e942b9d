// Package config reads an anycastle node file strictly and says where it is wrong. Topologies and mailbox files are
// read by the same rules.
//
// A node file is one YAML mapping with a section per role. Load parses it, Decode fills a role's own struct from
// one section, and the Cursor that Decode returns lets the role's Validate report what only the role can know.
// Every complaint carries file:line, the path of the key and the mend, and all of them are collected, so that one
// run of `anycastle check` shows everything that is wrong. Only what would follow from another complaint is left out.
//
// The package knows no role. It refuses unknown keys, duplicate keys, values of the wrong type, numbers without a
// unit where a duration is meant, YAML's surprises (anchors, aliases, merge keys, tags) and more than one document.
// Nothing has to be closed.
package config
