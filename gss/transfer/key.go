package transfer

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// Key is a secret that this server shares with others. It never changes.
type Key struct {
	Name      string // in lower case with a dot at its end
	Algorithm string // one of Algorithms
	Secret    []byte
}

// Keys are keys by their names.
type Keys map[string]*Key

// Algorithms are those that a key may have (RFC 8945 section 6), the best known first. MD5's is not among them.
func Algorithms() []string {
	return []string{"hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"}
}

// hash gives what messages are signed with; nil for an algorithm that is not one of Algorithms.
func (k *Key) hash() hash.Hash {
	switch k.Algorithm {
	case "hmac-sha256":
		return hmac.New(sha256.New, k.Secret)
	case "hmac-sha384":
		return hmac.New(sha512.New384, k.Secret)
	case "hmac-sha512":
		return hmac.New(sha512.New, k.Secret)
	case "hmac-sha224":
		return hmac.New(sha256.New224, k.Secret)
	case "hmac-sha1":
		return hmac.New(sha1.New, k.Secret)
	}
	return nil
}
