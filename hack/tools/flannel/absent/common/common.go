// Package common stands in for that of a cloud's SDK; see the go.mod of flannel.
package common

// StringPtr is the address of a copy.
func StringPtr(v string) *string { return &v }

// StringPtrs are the addresses of copies.
func StringPtrs(vs []string) []*string {
	out := make([]*string, 0, len(vs))
	for _, v := range vs {
		out = append(out, &v)
	}
	return out
}

// BoolPtr is the address of a copy.
func BoolPtr(v bool) *bool { return &v }
