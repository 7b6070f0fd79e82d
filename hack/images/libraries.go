package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// programs gives the files of an image that has these programs of the packages (paths without the leading slash) and every library they load at
// their start: each under lib/, where the loader looks last and finds it whatever its package's folder was, and the loader itself where the programs
// ask the kernel for it. Packages of libraries are fetched as far as they are needed.
func (p *packages) programs(paths ...string) ([]file, error) {
	for {
		files, missing, err := p.closure(paths)
		if err != nil || len(missing) == 0 {
			return files, err
		}
		more, err := p.addNear()
		if err != nil {
			return nil, err
		}
		if !more {
			return nil, fmt.Errorf("no package has %s, which %s needs", strings.Join(missing, ", "), strings.Join(paths, ", "))
		}
	}
}

// closure follows the libraries that the programs name, and those that these name. What no package has yet is missing.
func (p *packages) closure(paths []string) (files []file, missing []string, err error) {
	objects, err := p.sharedObjects()
	if err != nil {
		return nil, nil, err
	}
	byName := map[string]file{}
	var queue []string
	loaders := map[string]bool{} // by their last name: the C library names its loader as if it were a library
	open := func(name, from string) error {
		data, err := p.read(from)
		if err != nil {
			return err
		}
		needs, loader, err := elfNeeds(data)
		if err != nil {
			return fmt.Errorf("reading %s: %w", from, err)
		}
		byName[name] = file{name: name, mode: 0o755, data: data}
		queue = append(queue, needs...)
		if loader != "" {
			loaders[path.Base(loader)] = true
			queue = append(queue, loader)
		}
		return nil
	}
	for _, name := range paths {
		if err := open(name, name); err != nil {
			return nil, nil, err
		}
	}
	for len(queue) > 0 {
		need := queue[0]
		queue = queue[1:]
		name := path.Join("lib", need)
		if strings.HasPrefix(need, "/") {
			name = strings.TrimPrefix(need, "/")
		}
		if _, ok := byName[name]; ok || loaders[need] || slices.Contains(missing, need) {
			continue
		}
		from, ok := objects[path.Base(need)]
		if !ok {
			missing = append(missing, need)
			continue
		}
		if err := open(name, from); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		files = append(files, byName[name])
	}
	return files, missing, nil
}

// elfNeeds reads what a program or library loads at its start: libraries by name, and, for a program, its loader by path.
func elfNeeds(data []byte) (libraries []string, loader string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, "", err
	}
	if libraries, err = f.ImportedLibraries(); err != nil {
		return nil, "", err
	}
	for _, segment := range f.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		text, err := io.ReadAll(segment.Open())
		if err != nil {
			return nil, "", err
		}
		loader = string(bytes.TrimRight(text, "\x00"))
	}
	return libraries, loader, nil
}

// withUser is base with one user more.
func withUser(name string, number int) []file {
	files := base()
	for i := range files {
		switch files[i].name {
		case "etc/passwd":
			files[i].data = fmt.Appendf(files[i].data, "%[1]s:x:%[2]d:%[2]d::/:/bin/false\n", name, number)
		case "etc/group":
			files[i].data = fmt.Appendf(files[i].data, "%s:x:%d:\n", name, number)
		}
	}
	return files
}

// inOrder sorts a layer's entries, so that equal files give equal layers, and adds the folders that they need and nobody has named.
func inOrder(files []file) []file {
	byName := map[string]file{}
	for _, f := range files {
		byName[f.name] = f
	}
	for _, f := range files {
		for dir := path.Dir(strings.TrimSuffix(f.name, "/")); dir != "."; dir = path.Dir(dir) {
			if _, ok := byName[dir+"/"]; !ok {
				byName[dir+"/"] = file{name: dir + "/", mode: 0o755}
			}
		}
	}
	sorted := make([]file, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		sorted = append(sorted, byName[name])
	}
	return sorted
}
