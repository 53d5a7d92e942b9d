package gss

import (
	"errors"
	"fmt"
	"reflect"

	"anycastle/internal/mesh"
	"anycastle/internal/mtls"
)

// lasting says which keys that only a restart changes are other in the next config, with both values.
func (c *Config) lasting(next *Config) error {
	was, is := c.lastingKeys(), next.lastingKeys()
	var errs []error
	for i, k := range was {
		switch {
		case reflect.DeepEqual(k.value, is[i].value), !k.secret && shown(k.value) == shown(is[i].value):
		case k.secret:
			errs = append(errs, fmt.Errorf("gss.%s is another than before; that takes a restart", k.key))
		default:
			errs = append(errs, fmt.Errorf("gss.%s was %v and is %v now; that takes a restart", k.key, shown(k.value), shown(is[i].value)))
		}
	}
	return errors.Join(errs...)
}

// lastingKey is a key that only a restart changes.
type lastingKey struct {
	key    string
	value  any
	secret bool // the value is not shown
}

func (c *Config) lastingKeys() []lastingKey {
	files, log, of := mtls.Files{}, QueryLog{}, mesh.Config{}
	if c.TLS != nil {
		files = *c.TLS
	}
	if c.QueryLog != nil {
		log = *c.QueryLog
	}
	if c.Mesh != nil {
		of = *c.Mesh
	}
	return []lastingKey{
		{key: "name", value: c.Name},
		{key: "listen", value: c.Listen},
		{key: "listen_tls", value: c.ListenTLS},
		{key: "tls.cert", value: files.Cert},
		{key: "tls.key", value: files.Key},
		{key: "tls.ca", value: files.CA},
		{key: "state_dir", value: c.StateDir},
		{key: "mesh.listen", value: of.Listen},
		{key: "mesh.key", value: of.Key, secret: true},
		{key: "mesh.join", value: of.Join},
		{key: "mesh.name", value: of.Name},
		{key: "query_log.file", value: log.File},
		{key: "query_log.every", value: log.Every},
	}
}

// shown is a value as a person reads it.
func shown(value any) string {
	if v := reflect.ValueOf(value); v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return "unset"
	}
	return fmt.Sprint(value)
}
