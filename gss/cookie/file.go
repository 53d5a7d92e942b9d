package cookie

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

const maxFile = 64 << 10 // bytes of a file of secrets, comments included

// ErrSecrets says that a file of secrets is no good; the text around it says where and why.
var ErrSecrets = errors.New("unusable cookie secrets")

// Load reads the secrets that several servers share: one a line, 32 hex digits, the first for making cookies and all for
// checking them. Empty lines and what follows a # are skipped. The file must be a plain file that only its owner, or its
// owner and group, can read and only the owner can write: who has a secret can make cookies for any address.
func Load(path string) ([]Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read cookie secrets: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read cookie secrets: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no plain file", ErrSecrets, path)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %#o, so others than its owner can read or change it; run chmod 0600 on it",
			ErrSecrets, path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read cookie secrets: %w", err)
	}
	return Parse(path, text)
}

// Parse is Load for text that is already in memory; name stands for the file in errors.
func Parse(name string, text []byte) ([]Secret, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrSecrets, name, maxFile)
	}
	var secrets []Secret
	line := 0
	for l := range bytes.Lines(text) {
		line++
		l, _, _ = bytes.Cut(l, []byte("#"))
		if l = bytes.TrimSpace(l); len(l) == 0 {
			continue
		}
		s, err := parseSecret(l)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %s:%d: %w", ErrSecrets, name, line, err)
		case slices.Contains(secrets, s):
			return nil, fmt.Errorf("%w: %s:%d: the same secret as before; keep one of the two lines", ErrSecrets, name, line)
		case len(secrets) == MaxSecrets:
			return nil, fmt.Errorf("%w: %s:%d: more than %d secrets; remove those that no cookie of the last hour was made with",
				ErrSecrets, name, line, MaxSecrets)
		}
		secrets = append(secrets, s)
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("%w: %s:%d: no secret in it; `openssl rand -hex 16` makes one", ErrSecrets, name, max(line, 1))
	}
	return secrets, nil
}

// parseSecret never repeats what it could not read: it may be a secret with a slip in it.
func parseSecret(digits []byte) (Secret, error) {
	var s Secret
	if want := hex.EncodedLen(len(s)); len(digits) != want {
		return s, fmt.Errorf("%d characters, want %d hex digits; `openssl rand -hex 16` makes them", len(digits), want)
	}
	if _, err := hex.Decode(s[:], digits); err != nil {
		return s, fmt.Errorf("a character that is no hex digit; `openssl rand -hex 16` makes them")
	}
	if s == (Secret{}) {
		return s, errors.New("all zeros, which anyone can guess; `openssl rand -hex 16` makes a secret")
	}
	return s, nil
}
