package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"
)

// content is what a body has in it. It is an io.Writer that looks at what passes.
type content struct {
	size     int64
	hash     hash.Hash
	eightBit bool // anywhere
	utf8Head bool // bytes above 127 in the header
	hops     int  // Received fields

	inBody bool
	line   []byte // the begin of the present line of the header
	length int    // of that line without its end
}

func newContent() *content { return &content{hash: sha256.New()} }

// sum gives the SHA-256 of what has passed, in hexadecimal.
func (c *content) sum() string { return hex.EncodeToString(c.hash.Sum(nil)) }

const received = "received:"

// Write implements io.Writer.
func (c *content) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	c.hash.Write(p) // takes all it is given
	for i, b := range p {
		if c.inBody && c.eightBit {
			break
		}
		c.eightBit = c.eightBit || b > 127
		if !c.inBody {
			c.header(p[i])
		}
	}
	return len(p), nil
}

// header looks at one byte of the header.
func (c *content) header(b byte) {
	c.utf8Head = c.utf8Head || b > 127
	switch {
	case b == '\n':
		c.inBody = c.length == 0
		c.line, c.length = c.line[:0], 0
	case b != '\r':
		c.length++
		if c.length <= len(received) {
			c.line = append(c.line, b)
		}
		if c.length == len(received) && strings.EqualFold(string(c.line), received) {
			c.hops++
		}
	}
}
