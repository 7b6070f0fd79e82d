package authn

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"pilothouse.dev/apiserver/request"
)

// tokenFile is tokens written in a file (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file).
// They are known by their hashes, so that looking for one tells nothing of another by the time it takes.
type tokenFile map[tokenHash]*request.User

// readTokenFile reads lines of token, user, UID and, optionally, groups with commas between in one quoted column.
func readTokenFile(file string) (tokenFile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading tokens: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	all := tokenFile{}
	lines := csv.NewReader(f)
	lines.FieldsPerRecord = -1
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading tokens from %s: %w", file, err) // names the line and the column, and shows neither
		}
		line, _ := lines.FieldPos(0)
		wrong := func(what string, args ...any) error {
			return fmt.Errorf("reading tokens from %s: line %d: %w", file, line, fmt.Errorf(what, args...))
		}
		switch {
		case len(fields) < 3:
			return nil, wrong("want at least 3 columns (token, user name, user uid), found %d", len(fields))
		case len(fields) > 4:
			return nil, wrong("want at most 4 columns (token, user name, user uid, groups), found %d: groups with commas between are quoted as one column", len(fields))
		case fields[0] == "":
			return nil, wrong("the token is empty")
		case fields[1] == "":
			return nil, wrong("the user has no name")
		}
		hash := tokenHash(sha256.Sum256([]byte(fields[0])))
		if all[hash] != nil {
			return nil, wrong("the token stands on another line too")
		}
		u := &request.User{Name: fields[1], UID: fields[2]}
		if len(fields) == 4 {
			for g := range strings.SplitSeq(fields[3], ",") {
				if g = strings.TrimSpace(g); g != "" {
					u.Groups = append(u.Groups, g)
				}
			}
		}
		all[hash] = u
	}
}

// Check implements Bearer.
func (t tokenFile) Check(_ context.Context, token string, _ []string) (*Found, error) {
	u := t[sha256.Sum256([]byte(token))]
	if u == nil {
		return nil, ErrNotMine
	}
	return &Found{User: u}, nil
}
