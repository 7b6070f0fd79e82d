package server

import (
	"crypto/tls"
	"fmt"
	"strconv"
)

// TLS narrows how clients may speak; zero leaves it to Go.
type TLS struct {
	Min    uint16
	Suites []uint16
	Curves []tls.CurveID
}

// ReadTLS reads the words of --tls-min-version, --tls-cipher-suites and --tls-curve-preferences.
func ReadTLS(least string, suites, curves []string) (TLS, error) {
	var t TLS
	switch least {
	case "", "VersionTLS12":
	case "VersionTLS13":
		t.Min = tls.VersionTLS13
	default:
		return t, fmt.Errorf("--tls-min-version: Unsupported value: %q: supported values: %q", least, []string{"VersionTLS12", "VersionTLS13"})
	}
	known := map[string]uint16{}
	for _, s := range tls.CipherSuites() {
		known[s.Name] = s.ID
	}
	for _, name := range suites {
		id, ok := known[name]
		if !ok {
			return t, fmt.Errorf("--tls-cipher-suites: Cipher suite %s not supported or doesn't exist", name)
		}
		t.Suites = append(t.Suites, id)
	}
	for _, text := range curves {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return t, fmt.Errorf("--tls-curve-preferences: Invalid value: %q: must be the number of a key exchange", text)
		}
		t.Curves = append(t.Curves, tls.CurveID(n))
	}
	return t, nil
}

// over narrows a configuration whose GetConfigForClient makes the one that is used.
func (t TLS) over(c *tls.Config) *tls.Config {
	narrow := func(c *tls.Config) {
		c.MinVersion = max(c.MinVersion, t.Min)
		if len(t.Suites) > 0 {
			c.CipherSuites = t.Suites
		}
		if len(t.Curves) > 0 {
			c.CurvePreferences = t.Curves
		}
	}
	narrow(c)
	if each := c.GetConfigForClient; each != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			one, err := each(hello)
			if one != nil {
				narrow(one)
			}
			return one, err
		}
	}
	return c
}
