package pod

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// keyring makes the secrets of a lab, each from its name.
type keyring struct{ seed string }

// newKeyring makes one whose secrets follow from a seed, or that nobody can guess without one.
func newKeyring(seed string) keyring {
	if seed == "" {
		seed = rand.Text()
	}
	return keyring{seed}
}

// key gives the secret of a name: 16 bytes.
func (k keyring) key(name string) []byte {
	h := hmac.New(sha256.New, []byte(k.seed))
	h.Write([]byte(name))
	return h.Sum(nil)[:16]
}

// hex gives the secret as 32 hex digits.
func (k keyring) hex(name string) string { return hex.EncodeToString(k.key(name)) }

// What a lab's clients pay for a login: little, they log in often. A hash of a real directory has a hundred times as much work.
const (
	hashPasses = 1
	hashKiB    = 256
	keyRounds  = 4096 // RFC 7677 section 4 asks for no less
)

// hash gives the argon2id hash of a password in PHC form.
func (k keyring) hash(address, password string) string {
	salt := k.key("hash of " + address)
	sum := argon2.IDKey([]byte(password), salt, hashPasses, hashKiB, 1, 32)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, hashKiB, hashPasses, b64(salt), b64(sum))
}

// scram gives what a server has to know of a password for SCRAM-SHA-256 (RFC 5802 section 3), in the form of RFC 5803. The password
// is ASCII.
func (k keyring) scram(address, password string) (string, error) {
	salt := k.key("scram of " + address)
	salted, err := pbkdf2.Key(sha256.New, password, salt, keyRounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive keys of %s: %w", address, err)
	}
	sum := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sum("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", keyRounds, b64(salt), b64(stored[:]), b64(sum("Server Key"))), nil
}
