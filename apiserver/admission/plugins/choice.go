package plugins

import (
	"fmt"
	"slices"
	"strings"

	"pilothouse.dev/apiserver/admission"
)

// Choice is what the flags say of the plugins
// (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/).
type Choice struct {
	Enable  []string // --enable-admission-plugins: beside those that are on anyway
	Disable []string // --disable-admission-plugins
}

// Table is the plugins that run, in their order. A name that is not known, or that both flags have, is an error.
func Table(p Parts, c Choice) ([]admission.Plugin, error) {
	all := table(p)
	for _, flag := range []struct {
		name  string
		names []string
	}{{"--enable-admission-plugins", c.Enable}, {"--disable-admission-plugins", c.Disable}} {
		for _, name := range flag.names {
			if err := known(all, flag.name, name); err != nil {
				return nil, err
			}
		}
	}
	var out []admission.Plugin
	for _, l := range all {
		enabled, disabled := slices.Contains(c.Enable, l.Name()), slices.Contains(c.Disable, l.Name())
		switch {
		case enabled && disabled:
			return nil, fmt.Errorf("--enable-admission-plugins and --disable-admission-plugins both name %q", l.Name())
		case disabled && l.when == always:
			return nil, fmt.Errorf("--disable-admission-plugins: %q cannot be disabled: it is part of the API", l.Name())
		case l.when == always, enabled, l.when == on && !disabled:
			out = append(out, l.Plugin)
		}
	}
	return out, nil
}

func known(all []line, flag, name string) error {
	if slices.ContainsFunc(all, func(l line) bool { return l.Name() == name }) {
		return nil
	}
	names := make([]string, 0, len(all))
	for _, l := range all {
		if l.when != always {
			names = append(names, l.Name())
		}
	}
	slices.Sort(names)
	return fmt.Errorf("%s: plugin %q is unknown; known are %s", flag, name, strings.Join(names, ", "))
}

// Defaults are the names of the plugins that run unless they are disabled, sorted.
func Defaults() []string {
	var names []string
	for _, l := range table(Parts{}) {
		if l.when == on {
			names = append(names, l.Name())
		}
	}
	slices.Sort(names)
	return names
}
