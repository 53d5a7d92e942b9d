package submission

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/throttle"
)

// Login is the smtpd.Auth of the submission service.
type Login struct {
	Directory Directory
	Throttle  *throttle.Logins
	SCRAM     bool // offer SCRAM-SHA-256, if there are keys for it
}

var errThrottled = refusal(454, 7, 0, "Too many failed logins, try again later")

// Mechanisms implements smtpd.Auth.
func (l *Login) Mechanisms() []string {
	list := []string{smtpd.Plain, smtpd.Login}
	if l.SCRAM && l.Directory.HasKeys() {
		list = append([]string{smtpd.SCRAM}, list...)
	}
	return list
}

// Password implements smtpd.Auth. A hash may be of the password as it is typed, or of the form in which it is compared.
func (l *Login) Password(ctx context.Context, client netip.Addr, user, password string) (address string, err error) {
	err = l.Prove(ctx, client, user, func() error {
		m, err := l.Directory.Authenticate(ctx, user, password)
		if form, ok := smtpd.Prepare(password); errors.Is(err, directory.ErrLogin) && ok && form != password {
			m, err = l.Directory.Authenticate(ctx, user, form)
		}
		address = m.Address
		return err
	})
	if err != nil {
		return "", err
	}
	return address, nil
}

// Keys implements smtpd.Auth. The directory is asked the same for a user who is unknown, so that it takes as long.
func (l *Login) Keys(ctx context.Context, user string) (smtpd.Keys, error) {
	k, noKeys := l.Directory.SCRAM(ctx, user)
	if noKeys != nil && !errors.Is(noKeys, directory.ErrLogin) {
		return smtpd.Keys{}, noKeys
	}
	m, err := l.Directory.Mailbox(ctx, user)
	if err != nil && !errors.Is(err, directory.ErrUnknown) {
		return smtpd.Keys{}, err
	}
	keys := smtpd.Keys{Salt: k.Salt, Iterations: k.Iterations, StoredKey: k.StoredKey, ServerKey: k.ServerKey}
	if noKeys == nil {
		keys.Address = m.Address
	}
	return keys, nil
}

// Prove implements smtpd.Auth: it lets the time pass that a check has to wait, and counts how the check ends.
func (l *Login) Prove(ctx context.Context, client netip.Addr, user string, verify func() error) error {
	wait, ok := l.Throttle.Check(client, user)
	if !ok {
		return errThrottled
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		l.Throttle.Undecided(client, user)
		return ctx.Err()
	}
	err := verify()
	switch {
	case err == nil:
		l.Throttle.Succeeded(client, user)
	case errors.Is(err, directory.ErrLogin):
		l.Throttle.Failed(client, user)
	default:
		l.Throttle.Undecided(client, user)
	}
	return err
}
