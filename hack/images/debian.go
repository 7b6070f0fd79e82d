package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// packages are Debian packages whose files lie in a folder of their own: unpacked, not installed, so that this machine stays as it
// is and none of their scripts runs. One build has one, and its images share what was fetched.
type packages struct {
	root  string                                    // of the files
	fetch func(folder string, names []string) error // writes a .deb file for each name
	have  map[string]bool
	// near are the packages of libraries that those in have say they need, in their order; most are in have, too.
	near []string
}

func newPackages(root string, fetch func(folder string, names []string) error) *packages {
	return &packages{root: root, fetch: fetch, have: map[string]bool{}}
}

// add fetches and unpacks those of the packages that are not there yet.
func (p *packages) add(names ...string) (err error) {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return p.have[name] })
	if len(names) == 0 {
		return nil
	}
	folder, err := os.MkdirTemp("", "packages-")
	if err != nil {
		return fmt.Errorf("making a folder for packages: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := p.fetch(folder, names); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.deb"))
	if err != nil {
		return fmt.Errorf("listing the packages: %w", err)
	}
	for _, file := range files {
		if out, err := exec.Command("dpkg-deb", "-x", file, p.root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpacking %s: %w: %s", filepath.Base(file), err, out)
		}
		for _, field := range []string{"Pre-Depends", "Depends"} {
			needs, err := exec.Command("dpkg-deb", "-f", file, field).Output()
			if err != nil {
				return fmt.Errorf("asking what %s needs: %w", filepath.Base(file), err)
			}
			p.near = append(p.near, libraryPackages(string(needs))...)
		}
	}
	for _, name := range names {
		p.have[name] = true
	}
	return nil
}

// addNear adds the libraries' packages that those there say they need, and tells whether there were any.
func (p *packages) addNear() (bool, error) {
	var names []string
	for _, name := range p.near {
		if !p.have[name] && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	p.near = nil
	return len(names) > 0, p.add(names...)
}

// libraryPackages picks from a package's Depends those that have libraries. Of alternatives it takes the first, as apt would; versions are left to
// the archive, whose packages fit each other. (Debian Policy 7.1 has the field's form, 8.1 how packages of libraries are named.)
func libraryPackages(depends string) []string {
	var names []string
	for need := range strings.SplitSeq(depends, ",") {
		first, _, _ := strings.Cut(need, "|")
		name, _, _ := strings.Cut(strings.TrimSpace(first), " ")
		name, _, _ = strings.Cut(name, ":") // an architecture
		if strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "zlib") {
			names = append(names, name)
		}
	}
	return names
}

// read gives a file of the packages. Symbolic links are followed inside the packages only, never to this machine's own files.
func (p *packages) read(name string) ([]byte, error) {
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return nil, fmt.Errorf("reading from the packages: %w", err)
	}
	defer root.Close()
	data, err := root.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading from the packages: %w", err)
	}
	return data, nil
}

// has tells whether one of the packages has the file.
func (p *packages) has(name string) bool {
	_, err := os.Lstat(filepath.Join(p.root, name))
	return err == nil
}

// sharedObjects are the packages' libraries: the name that programs ask for and the file. A link is taken only when there is no file of
// that name, for older packages of the C library have links to where they would be installed.
func (p *packages) sharedObjects() (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(d.Name(), ".so") {
			return err
		}
		if _, ok := found[d.Name()]; ok && !d.Type().IsRegular() {
			return nil
		}
		found[d.Name()], err = filepath.Rel(p.root, path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for libraries: %w", err)
	}
	return found, nil
}

// download fetches packages from the archive that this machine's apt knows, with apt's own checks of what comes. Lists that are missing or old
// are renewed once.
func download(folder string, names []string) error {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: these images are made from Debian's packages, on Debian or Ubuntu", err)
		}
	}
	apt := func(args ...string) error {
		// As this user: apt's own may not write to the folder.
		cmd := exec.Command("apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=1"}, args...)...)
		cmd.Dir, cmd.Env = folder, append(os.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, complaints(string(out)))
	}
	get := append([]string{"download"}, names...)
	err := apt(get...)
	if err == nil {
		return nil
	}
	if renewing := apt("update"); renewing != nil {
		err = errors.Join(err, renewing)
	} else if err = apt(get...); err == nil {
		return nil
	}
	return fmt.Errorf("fetching packages: %w\n"+
		"The images redis and nginx need Debian's package archive once. Let this machine reach it (see `apt-get update`, as root) and run make images again; "+
		"a cluster and all other images work without", err)
}

// complaints are the lines of apt's output that say what went wrong.
func complaints(out string) string {
	var bad []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "E:") {
			bad = append(bad, "  "+strings.TrimSpace(line))
		}
	}
	if len(bad) == 0 {
		return out
	}
	return strings.Join(bad, "\n")
}
