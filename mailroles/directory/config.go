package directory

import (
	"anycastle/internal/config"
)

// Config says where mailboxes, aliases and groups are told of. In a node file it is the path of a mailboxes file, or a
// mapping with ldap.
type Config struct {
	File string      // used unless LDAP is set
	LDAP *LDAPConfig `yaml:"ldap"`
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Config) UnmarshalText(text []byte) error {
	*c = Config{File: string(text)}
	return nil
}

// Kind says what a value looks like, for complaints.
func (c *Config) Kind() string { return "the path of a mailboxes file, or a mapping with ldap" }

// Validate reports what is wrong, also in the mailboxes file. An LDAP server is not asked.
func (c *Config) Validate(at config.Cursor, luns []string) {
	if c.LDAP != nil {
		c.LDAP.validate(at.Key("ldap"))
		return
	}
	if _, err := loadTable(c.File, luns); err != nil {
		at.Errorf("mailboxes file: %v", err)
	}
}
