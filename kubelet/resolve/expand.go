package resolve

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Expand replaces $(NAME) by its value; $$ is a single dollar sign, and a name that is not known stays as it was written.
func Expand(s string, values map[string]string) string {
	out, _ := expand(s, values)
	return out
}

// ExpandAll is Expand, but a name that is not known is an ErrMissing.
func ExpandAll(s string, values map[string]string) (string, error) {
	out, unknown := expand(s, values)
	if len(unknown) > 0 {
		return "", missingf("missing value for %s", strings.Join(unknown, ", "))
	}
	return out, nil
}

// expand also says which names were not known.
func expand(s string, values map[string]string) (out string, unknown []string) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String(), unknown
		}
		b.WriteString(s[:i])
		switch end := strings.IndexByte(s[i:], ')'); {
		case s[i+1] == '$':
			b.WriteByte('$')
			s = s[i+2:]
		case s[i+1] == '(' && end > 0:
			ref := s[i : i+end+1]
			name := ref[2 : len(ref)-1]
			v, known := values[name]
			if !known {
				v, unknown = ref, append(unknown, name)
			}
			b.WriteString(v)
			s = s[i+end+1:]
		default:
			b.WriteByte('$')
			s = s[i+1:]
		}
	}
}

// Args expands a container's command and arguments with its environment.
func Args(c *corev1.Container, env []string) (command, args []string) {
	values := Values(env)
	for _, s := range c.Command {
		command = append(command, Expand(s, values))
	}
	for _, s := range c.Args {
		args = append(args, Expand(s, values))
	}
	return command, args
}

// Values makes a map of NAME=value strings.
func Values(env []string) map[string]string {
	values := make(map[string]string, len(env))
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	return values
}
