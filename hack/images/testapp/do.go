package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// verbs are the single steps of do; what a step needs stands behind its «=».
var verbs = map[string]func(context.Context, string) error{
	"print": func(_ context.Context, text string) error { fmt.Println(text); return nil },
	"warn":  func(_ context.Context, text string) error { fmt.Fprintln(os.Stderr, text); return nil },
	"env": func(_ context.Context, prefix string) error { // the variables that begin so
		all := os.Environ()
		slices.Sort(all)
		for _, kv := range all {
			if strings.HasPrefix(kv, prefix) {
				fmt.Println(kv)
			}
		}
		return nil
	},
	"args": func(_ context.Context, _ string) error { fmt.Println(strings.Join(os.Args, " ")); return nil },
	"sleep": func(ctx context.Context, length string) error {
		d, err := time.ParseDuration(length)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return nil
	},
	"pause": func(ctx context.Context, _ string) error { <-ctx.Done(); return nil },
	"deaf": func(context.Context, string) error { // to SIGTERM
		signal.Ignore(syscall.SIGTERM)
		return nil
	},
	"exit": func(_ context.Context, code string) error {
		n, err := strconv.Atoi(code)
		if err != nil {
			return err
		}
		os.Exit(n)
		return nil
	},
	"read": func(_ context.Context, path string) error {
		data, err := os.ReadFile(path)
		if err == nil {
			_, err = os.Stdout.Write(data)
		}
		return err
	},
	"list": func(_ context.Context, path string) error {
		entries, err := os.ReadDir(path)
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	},
	"write":  func(_ context.Context, what string) error { return write(what, os.O_TRUNC) },
	"append": func(_ context.Context, what string) error { return write(what, os.O_APPEND) },
	"remove": func(_ context.Context, path string) error { return os.Remove(path) },
	"await": func(ctx context.Context, path string) error { // until it is there
		for {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	},
	"get": func(ctx context.Context, url string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	},
	"turns": turns,
}

// do takes its arguments as steps, VERB=WHAT, one after the other, and fails with the first one that does: a shell for pods, whose image has none.
func do(ctx context.Context, o options) error {
	for _, step := range o.args {
		name, what, _ := strings.Cut(step, "=")
		verb, ok := verbs[name]
		if !ok {
			return fmt.Errorf("no step %q", name)
		}
		if err := verb(ctx, what); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

// write does FILE=TEXT.
func write(what string, how int) error {
	path, text, _ := strings.Cut(what, "=")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|how, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// turns does FILE=CODE,CODE…: the first run that sees the file ends with the first code, the second with the second, and later ones go on.
func turns(_ context.Context, what string) error {
	path, codes, _ := strings.Cut(what, "=")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := write(path+"=x", os.O_APPEND); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if list := strings.Split(codes, ","); info.Size() <= int64(len(list)) {
		code, err := strconv.Atoi(list[info.Size()-1])
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	return nil
}
