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
	File    string   // --admission-control-config-file
}

// Table is the plugins that run, in their order, configured. A name that is not known or that both flags have, and a file that is
// not well formed, is an error that names the flag or the file.
func Table(p Parts, c Choice) ([]admission.Plugin, error) {
	docs, err := readConfigs(c.File)
	if err != nil {
		return nil, fmt.Errorf("reading --admission-control-config-file: %w", err)
	}
	if p.LimitedResources, err = limitedResources(docs["ResourceQuota"]); err != nil {
		return nil, fmt.Errorf("configuration of admission plugin ResourceQuota: %w", err)
	}
	delete(docs, "ResourceQuota")
	all := table(p)
	chosen, err := choose(all, c)
	if err != nil {
		return nil, err
	}
	if err := configure(all, chosen, c.File, docs); err != nil {
		return nil, err
	}
	out := make([]admission.Plugin, len(chosen))
	for i, l := range chosen {
		out[i] = l.Plugin
	}
	return out, nil
}

// choose picks those lines that run.
func choose(all []line, c Choice) ([]line, error) {
	for _, name := range c.Enable {
		if err := known(all, "--enable-admission-plugins", name); err != nil {
			return nil, err
		}
	}
	for _, name := range c.Disable {
		if err := known(all, "--disable-admission-plugins", name); err != nil {
			return nil, err
		}
	}
	var out []line
	for _, l := range all {
		enabled, disabled := slices.Contains(c.Enable, l.Name()), slices.Contains(c.Disable, l.Name())
		switch {
		case enabled && disabled:
			return nil, fmt.Errorf("--enable-admission-plugins and --disable-admission-plugins both name %q", l.Name())
		case disabled && l.when == always:
			return nil, fmt.Errorf("--disable-admission-plugins: %q cannot be disabled: it is part of the API", l.Name())
		case l.when == always, enabled, l.when == on && !disabled:
			out = append(out, l)
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
