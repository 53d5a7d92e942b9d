package directory

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Rounds of PBKDF2 in keys: a client does that many at each login. RFC 7677 section 4 asks for 4096 at least.
const (
	minRounds = 4096
	maxRounds = 1_000_000
	ourRounds = 15_000
)

// Keys are what a server has to know for SCRAM-SHA-256 (RFC 5802 section 3). They are as secret as a password's hash.
type Keys struct {
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte // 32 bytes each
}

// errKeys hides what was read: it may be a password.
var errKeys = errors.New("directory: no SCRAM-SHA-256 keys in the form of RFC 5803")

// scheme begins the text form of keys.
const scheme = "SCRAM-SHA-256"

// MakeKeys makes keys of a password, with a new salt.
func MakeKeys(password string) (Keys, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return Keys{}, fmt.Errorf("make salt: %w", err)
	}
	return deriveKeys(password, salt, ourRounds)
}

func deriveKeys(password string, salt []byte, rounds int) (Keys, error) {
	prepared, ok := prepare(password)
	if !ok {
		return Keys{}, errors.New("the password is empty, or has characters that cannot be typed alike everywhere, " +
			"such as control characters")
	}
	salted, err := pbkdf2.Key(sha256.New, prepared, salt, rounds, sha256.Size)
	if err != nil {
		return Keys{}, fmt.Errorf("derive keys: %w", err)
	}
	client := sha256.Sum256(sum(salted, "Client Key"))
	return Keys{Salt: salt, Iterations: rounds, StoredKey: client[:], ServerKey: sum(salted, "Server Key")}, nil
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// prepare is SASLprep of a password that is kept (RFC 4013): what looks the same is the same.
func prepare(password string) (string, bool) {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Zs, r):
			return ' '
		case r == 0xAD || r == 0x34F || r == 0x1806 || r >= 0x180B && r <= 0x180D || r >= 0x200B && r <= 0x200D ||
			r == 0x2060 || r >= 0xFE00 && r <= 0xFE0F || r == 0xFEFF:
			return -1 // RFC 3454 table B.1
		}
		return r
	}, password)
	prepared := norm.NFKC.String(mapped)
	bad := strings.ContainsFunc(prepared, func(r rune) bool {
		return r == unicode.ReplacementChar || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)
	})
	return prepared, prepared != "" && !bad
}

// ParseKeys reads "SCRAM-SHA-256$15000:SALT$STORED:SERVER" (RFC 5803), whose last three are base64.
func ParseKeys(text string) (Keys, error) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != scheme {
		return Keys{}, errKeys
	}
	var k Keys
	var err error
	if k.Iterations, err = strconv.Atoi(parts[1]); err != nil || k.Iterations < minRounds || k.Iterations > maxRounds {
		return Keys{}, errKeys
	}
	for i, into := range []*[]byte{&k.Salt, &k.StoredKey, &k.ServerKey} {
		if *into, err = base64.StdEncoding.DecodeString(parts[2+i]); err != nil {
			return Keys{}, errKeys
		}
	}
	if len(k.Salt) < 8 || len(k.Salt) > 64 || len(k.StoredKey) != sha256.Size || len(k.ServerKey) != sha256.Size ||
		k.text() != text {
		return Keys{}, errKeys
	}
	return k, nil
}

// text gives the form that ParseKeys reads. It is no String: keys are not to be shown by accident.
func (k Keys) text() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", scheme, k.Iterations, b64(k.Salt), b64(k.StoredKey), b64(k.ServerKey))
}

// HasKeys says whether SCRAM is of use: whether any mailbox may have keys.
func (d *Directory) HasKeys() bool {
	_, rounds := d.source().fake()
	return rounds > 0
}

// SCRAM gives a user's keys. For an unknown or disabled one, and one without keys, the error is ErrLogin, and the keys are such
// as such a user might have, always the same, and of no password: the exchange is to go on with them and fail at its end, so
// that a client does not learn who exists. When there are no keys at all the error is ErrNoKeys.
func (d *Directory) SCRAM(ctx context.Context, user string) (Keys, error) {
	s := d.source()
	seed, rounds := s.fake()
	if rounds == 0 {
		return Keys{}, ErrNoKeys
	}
	normal, ok := Normalize(user)
	e, err := (*entry)(nil), ErrUnknown
	if ok && s.local(domainOf(normal)) {
		e, err = s.find(ctx, normal, true)
	}
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Keys{}, err
	}
	if err == nil && e.kind == aMailbox && e.keys != nil && !e.box.Disabled {
		k := *e.keys
		k.Salt, k.StoredKey, k.ServerKey = bytes.Clone(k.Salt), bytes.Clone(k.StoredKey), bytes.Clone(k.ServerKey)
		return k, nil
	}
	if !ok {
		normal = user
	}
	return Keys{
		Salt: sum(seed, "salt "+normal)[:16], Iterations: rounds,
		StoredKey: sum(seed, "stored "+normal), ServerKey: sum(seed, "server "+normal),
	}, ErrLogin
}
