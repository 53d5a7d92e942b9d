package directory

import (
	"anycastle/internal/config"
)

// Config says where mailboxes, aliases and groups are told of. In a node file it is the path of a mailboxes file.
type Config struct {
	File string
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Config) UnmarshalText(text []byte) error {
	*c = Config{File: string(text)}
	return nil
}

// Kind says what a value looks like, for complaints.
func (c *Config) Kind() string { return "the path of a mailboxes file" }

// Validate reports what is wrong, also in the mailboxes file.
func (c *Config) Validate(at config.Cursor, luns []string) {
	if _, err := loadTable(c.File, luns); err != nil {
		at.Errorf("mailboxes file: %v", err)
	}
}
