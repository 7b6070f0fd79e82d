package devices

import (
	"fmt"
	"strings"
)

// mostLabel is how much goes into one label: containerd takes 4096 bytes with the key.
const mostLabel = 3800

// write puts what a container has into as many labels as it needs.
func write(labels map[string]string, text string) {
	for i := 0; text != ""; i++ {
		n := min(len(text), mostLabel)
		labels[part(i)], text = text[:n], text[n:]
	}
}

// read puts it together again; empty: there is none.
func read(labels map[string]string) string {
	var b strings.Builder
	for i := 0; labels[part(i)] != ""; i++ {
		b.WriteString(labels[part(i)])
	}
	return b.String()
}

func part(i int) string {
	if i == 0 {
		return label
	}
	return fmt.Sprintf("%s-%d", label, i)
}
