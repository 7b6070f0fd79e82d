package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// looks are what can be seen of a path. Each gets what stands behind its name (NAME=MORE:PATH) and the path.
var looks = map[string]func(o options, more, path string) (string, error){
	"type":    lookType,
	"mode":    lookMode,
	"owner":   lookOwner,
	"content": lookContent,
	"bytes":   lookBytes,
	"list":    lookList,
	"mount":   lookMount,
	"make":    lookMake,
	"write":   lookWrite,
}

// look says what it sees of files, a line for each NAME:PATH it is given: the type of file system, mode, owner, content, bytes (in
// hexadecimal), the names in a folder (list) and the options of its mount; make=0644:PATH makes a new file of that mode with the text, and
// write:PATH writes the text to one, made if need be. What cannot be seen is no failure: the line says why. With -count=0 it looks again
// and again and speaks when something has changed, otherwise count times.
func look(ctx context.Context, o options) error {
	said := map[string]string{}
	for i := 0; o.count == 0 || i < o.count; i++ {
		for _, arg := range o.args {
			line, err := lookOnce(o, arg)
			if err != nil {
				return err
			}
			if o.count == 0 && said[arg] == line {
				continue
			}
			said[arg] = line
			fmt.Println(line)
		}
		if i+1 == o.count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
	return nil
}

func lookOnce(o options, arg string) (string, error) {
	name, path, ok := strings.Cut(arg, ":")
	name, more, _ := strings.Cut(name, "=")
	see := looks[name]
	if !ok || see == nil {
		return "", fmt.Errorf("%q: want type, mode, owner, content, bytes, list, mount, make=MODE or write, a colon and a path", arg)
	}
	seen, err := see(o, more, path)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		seen = "(" + err.Error() + ")"
	}
	return name + " of " + path + ": " + seen, nil
}

// fileSystems are the numbers by which statfs(2) tells what a file system is.
var fileSystems = map[int64]string{
	0x01021994: "tmpfs", 0xef53: "ext", 0x794c7630: "overlay", 0x958458f6: "hugetlbfs", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x6969: "nfs",
	0x62656572: "sysfs", 0x9fa0: "proc",
}

func lookType(_ options, _, path string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return "", err
	}
	if name, known := fileSystems[int64(st.Type)]; known {
		return name, nil
	}
	return fmt.Sprintf("%#x", st.Type), nil
}

func lookMode(_ options, _, path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return st.Mode().String(), nil
}

func lookOwner(_ options, _, path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid), nil
}

func lookContent(_ options, _, path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

func lookBytes(_ options, _, path string) (string, error) {
	b, err := os.ReadFile(path)
	return hex.EncodeToString(b), err
}

func lookList(_ options, _, path string) (string, error) {
	entries, err := os.ReadDir(path)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return strings.Join(names, " "), err
}

// lookMount says the options of the mount at path, and with whom it shares what is mounted below it (proc(5), mountinfo).
func lookMount(_ options, _, path string) (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	seen := ""
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 7 || f[4] != path {
			continue
		}
		seen = f[5] // the last one is on top
		for _, optional := range f[6:] {
			if optional == "-" {
				break
			}
			kind, _, _ := strings.Cut(optional, ":")
			seen += " " + kind
		}
	}
	if seen == "" {
		return "", errors.New("nothing is mounted there")
	}
	return seen, nil
}

func lookMake(o options, more, path string) (string, error) {
	mode, err := strconv.ParseUint(more, 8, 12)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(mode))
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(o.text)
	return "made", errors.Join(err, f.Chmod(fs.FileMode(mode)), f.Close()) // whatever the mask of new files is
}

func lookWrite(o options, _, path string) (string, error) {
	return "written", os.WriteFile(path, []byte(o.text), 0o644)
}
