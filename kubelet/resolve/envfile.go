package resolve

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// MostOfEnvFile is how long a file of variables may be.
const MostOfEnvFile = 64 << 10

// fromFile says the value of a key in a file that some container has written.
func fromFile(ref *corev1.FileKeySelector, facts Facts) (string, bool, error) {
	if facts.Files == nil {
		return "", false, missingf("files of volumes cannot be read here")
	}
	data, err := facts.Files(ref.VolumeName, ref.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if optional(ref.Optional) {
			return "", false, nil
		}
		return "", false, missingf("couldn't find file %s in volume %s", ref.Path, ref.VolumeName)
	}
	if err != nil {
		return "", false, fmt.Errorf("reading file %s in volume %s: %w", ref.Path, ref.VolumeName, err)
	}
	values, err := EnvFile(string(data))
	if err != nil {
		return "", false, missingf("file %s in volume %s: %v", ref.Path, ref.VolumeName, err)
	}
	v, ok := values[ref.Key]
	if !ok && !optional(ref.Optional) {
		return "", false, missingf("couldn't find key %s in file %s of volume %s", ref.Key, ref.Path, ref.VolumeName)
	}
	return v, ok, nil
}

// EnvFile reads variables of the form NAME='value', where the value is what stands between the quotes, newlines and all; blank lines and those
// that begin with # say nothing. Every such file means the same to a POSIX shell, and nothing else of what a shell takes is accepted
// (https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-via-file/#env-file-syntax). A later line wins.
func EnvFile(text string) (map[string]string, error) {
	values := map[string]string{}
	for line := 1; text != ""; {
		first, rest, _ := strings.Cut(text, "\n")
		if trimmed := strings.TrimSpace(first); trimmed == "" || trimmed[0] == '#' {
			text = rest
			line++
			continue
		}
		name, _, ok := strings.Cut(first, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t'\"") {
			return nil, fmt.Errorf("line %d: want NAME='value'", line)
		}
		_, value, _ := strings.Cut(text, "=")
		value, quoted := strings.CutPrefix(strings.TrimLeft(value, " \t"), "'")
		if !quoted {
			return nil, fmt.Errorf("line %d: the value of %s is not in single quotes", line, name)
		}
		value, after, closed := strings.Cut(value, "'")
		if !closed {
			return nil, fmt.Errorf("line %d: the quote of the value of %s is not closed", line, name)
		}
		line += strings.Count(value, "\n")
		after, text, _ = strings.Cut(after, "\n")
		if strings.TrimSpace(after) != "" {
			return nil, fmt.Errorf("line %d: something follows the value of %s", line, name)
		}
		line++
		values[name] = value
	}
	return values, nil
}
