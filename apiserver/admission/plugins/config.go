package plugins

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/configfile"
)

// configurable is a plugin that --admission-control-config-file can configure.
type configurable interface {
	admission.Plugin
	// configure reads what the file says of the plugin, once, before it runs. The document is empty when it says nothing.
	configure(d configfile.Document) error
}

// configFile is an AdmissionConfiguration
// (https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-k8s-io-v1-AdmissionConfiguration).
type configFile struct {
	metav1.TypeMeta `json:",inline"`
	Plugins         []struct {
		Name          string          `json:"name"`
		Path          string          `json:"path"`
		Configuration json.RawMessage `json:"configuration"`
	} `json:"plugins"`
}

// readConfigs reads the configurations of plugins by their names. No file has none.
func readConfigs(file string) (map[string]configfile.Document, error) {
	if file == "" {
		return nil, nil
	}
	d, err := configfile.Read(file)
	if err != nil {
		return nil, err
	}
	var f configFile
	if err := d.Versioned(&f, "AdmissionConfiguration", "apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"); err != nil {
		return nil, err
	}
	out := make(map[string]configfile.Document, len(f.Plugins))
	for i, p := range f.Plugins {
		at := field.NewPath("plugins").Index(i)
		if _, twice := out[p.Name]; twice {
			return nil, d.Invalid(field.ErrorList{field.Duplicate(at.Child("name"), p.Name)})
		}
		switch {
		case p.Name == "":
			return nil, d.Invalid(field.ErrorList{field.Required(at.Child("name"), "")})
		case len(p.Configuration) > 0 && string(p.Configuration) != "null": // it goes before a path
			out[p.Name] = d.Part(p.Configuration, "plugins", strconv.Itoa(i), "configuration")
		case p.Path != "":
			if out[p.Name], err = configfile.Read(d.Beside(p.Path)); err != nil {
				return nil, d.Wrong(at.Child("path").String(), fmt.Errorf("configuration of %s: %w", p.Name, err))
			}
		default:
			out[p.Name] = configfile.Document{}
		}
	}
	return out, nil
}

// configure gives the plugins what the file says of them. One that the file names must be there, and take a configuration. One that
// does not run is configured too, so that what is wrong is found before it is turned on.
func configure(all, chosen []line, file string, docs map[string]configfile.Document) error {
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		if err := known(all, file, name); err != nil {
			return err
		}
	}
	for _, l := range all {
		d := docs[l.Name()]
		c, takes := l.Plugin.(configurable)
		runs := slices.ContainsFunc(chosen, func(o line) bool { return o.Name() == l.Name() })
		switch {
		case !takes && !d.Empty():
			return fmt.Errorf("%s: plugin %q takes no configuration", file, l.Name())
		case takes && (runs || !d.Empty()):
			if err := c.configure(d); err != nil {
				return fmt.Errorf("configuration of admission plugin %s: %w", l.Name(), err)
			}
		}
	}
	return nil
}
