package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"pilothouse.dev/pkg/pod"
)

// look is how often the folder is looked at.
const look = 2 * time.Second

// files finds static pods in a folder. Owned by one goroutine.
type files struct {
	folder, node string
	log          *zap.Logger
	known        map[string]*corev1.Pod // by file name
	said         map[string]string      // what was complained about, by file name
}

func (f *files) run(ctx context.Context, tell func(any, bool)) {
	if f.folder == "" {
		return
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.scan(tell)
		}
	}
}

// scan reads the folder and tells what changed. A file that cannot be read leaves its pod as it was.
func (f *files) scan(tell func(any, bool)) {
	if f.folder == "" {
		return
	}
	entries, err := os.ReadDir(f.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.complain("", err)
		return
	}
	here := map[string]bool{}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" && ext != ".json" {
			continue
		}
		here[e.Name()] = true
		p, err := f.read(e.Name())
		if err != nil {
			f.complain(e.Name(), err)
			continue
		}
		was := f.known[e.Name()]
		if was != nil && was.UID == p.UID {
			continue
		}
		if f.known == nil {
			f.known = map[string]*corev1.Pod{}
		}
		f.known[e.Name()] = p
		if was != nil {
			tell(was, true)
		}
		tell(p, false)
	}
	for name, p := range f.known {
		if !here[name] {
			delete(f.known, name)
			tell(p, true)
		}
	}
}

func (f *files) complain(name string, err error) {
	if f.said == nil {
		f.said = map[string]string{}
	}
	if f.said[name] != err.Error() {
		f.said[name] = err.Error()
		f.log.Warn("reading a static pod", zap.String("file", filepath.Join(f.folder, name)), zap.Error(err))
	}
}

// read makes a pod of a file. Its UID follows from the content: a changed file is another pod.
func (f *files) read(name string) (*corev1.Pod, error) {
	data, err := os.ReadFile(filepath.Join(f.folder, name))
	if err != nil {
		return nil, err
	}
	p := &corev1.Pod{}
	if err := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096).Decode(p); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	if p.Kind != "Pod" || p.Name == "" || len(p.Spec.Containers) == 0 {
		return nil, errors.New("this is no pod with a name and a container")
	}
	sum := sha256.Sum256(append([]byte(f.node+"\n"+name+"\n"), data...))
	hash := hex.EncodeToString(sum[:16])
	p.UID = types.UID(hash)
	p.Name += "-" + f.node
	if p.Namespace == "" {
		p.Namespace = "default"
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[pod.AnnotationSource], p.Annotations[pod.AnnotationHash] = "file", hash
	p.Spec.NodeName = f.node
	if p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	return p, nil
}
