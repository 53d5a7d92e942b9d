package directory

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// ErrHash says that a text is neither an argon2id hash in PHC form nor a bcrypt hash, or asks for absurd work.
var ErrHash = errors.New("directory: no argon2id or bcrypt hash")

// Work bounds: a hash that asks for more would let one login take the machine.
const (
	maxMemoryKiB   = 1 << 20
	maxPasses      = 16
	maxLanes       = 16
	maxBcryptCost  = 15
	maxPasswordLen = 1024
)

// phc is a parsed argon2id hash.
type phc struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

// HashPassword hashes with argon2id: 19 MiB, 2 passes, 1 lane, 16 bytes of salt.
func HashPassword(password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make salt: %w", err)
	}
	p := phc{memory: 19 << 10, passes: 2, lanes: 1, salt: salt}
	p.sum = p.derive(password, 32)
	return p.String(), nil
}

// Check reports whether the password gives the hash. The error is ErrHash when the hash is none.
func Check(hash, password string) (bool, error) {
	if len(password) > maxPasswordLen {
		return false, nil
	}
	if isBcrypt(hash) {
		if err := checkBcryptCost(hash); err != nil {
			return false, err
		}
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil, nil
	}
	p, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(p.sum, p.derive(password, uint32(len(p.sum)))) == 1, nil
}

// decoy makes a hash of no known password that costs as much to check as the given one.
func decoy(like string) (string, error) {
	if isBcrypt(like) {
		cost, err := bcrypt.Cost([]byte(like))
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrHash, err)
		}
		sum, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
		if err != nil {
			return "", fmt.Errorf("make decoy hash: %w", err)
		}
		return string(sum), nil
	}
	p, err := parsePHC(like)
	if err != nil {
		return "", err
	}
	p.salt, p.sum = make([]byte, len(p.salt)), make([]byte, len(p.sum))
	if _, err := rand.Read(p.sum); err != nil {
		return "", fmt.Errorf("make decoy hash: %w", err)
	}
	return p.String(), nil
}

func checkHash(hash string) error {
	if isBcrypt(hash) {
		return checkBcryptCost(hash)
	}
	_, err := parsePHC(hash)
	return err
}

func isBcrypt(hash string) bool { return strings.HasPrefix(hash, "$2") }

func checkBcryptCost(hash string) error {
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHash, err)
	}
	if cost > maxBcryptCost {
		return fmt.Errorf("%w: bcrypt cost %d is above %d", ErrHash, cost, maxBcryptCost)
	}
	return nil
}

// parsePHC reads "$argon2id$v=19$m=19456,t=2,p=1$SALT$SUM".
func parsePHC(hash string) (phc, error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phc{}, fmt.Errorf("%w: want $argon2id$v=19$m=…,t=…,p=…$SALT$SUM or $2b$…", ErrHash)
	}
	var p phc
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.lanes); n != 3 || err != nil {
		return phc{}, fmt.Errorf("%w: parameters %q", ErrHash, parts[3])
	}
	if p.passes < 1 || p.passes > maxPasses || p.lanes < 1 || p.lanes > maxLanes ||
		p.memory < 8*uint32(p.lanes) || p.memory > maxMemoryKiB {
		return phc{}, fmt.Errorf("%w: parameters %q are out of bounds", ErrHash, parts[3])
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return phc{}, fmt.Errorf("%w: salt", ErrHash)
	}
	if p.sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(p.sum) < 16 || len(p.sum) > 64 {
		return phc{}, fmt.Errorf("%w: sum", ErrHash)
	}
	return p, nil
}

func (p phc) derive(password string, n uint32) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.passes, p.memory, p.lanes, n)
}

// String gives the PHC form.
func (p phc) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.lanes, b64(p.salt), b64(p.sum))
}
