package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"go.uber.org/zap"
)

// usualHandler is the name that RuntimeClasses give to the OCI runtime that other pods get.
const usualHandler = "runc"

// program is the OCI runtime of a handler; the sandbox was made with it, so it is known.
func (r *Runtime) program(handler string) string {
	if p, ok := r.cfg.Handlers[handler]; ok {
		return p
	}
	return r.cfg.OCIRuntime
}

// checkHandler says ErrNoHandler of one that is not configured.
func (r *Runtime) checkHandler(handler string) error {
	if _, ok := r.cfg.Handlers[handler]; ok || handler == "" || handler == usualHandler {
		return nil
	}
	return fmt.Errorf("failed to get sandbox runtime: %w", noHandler(handler))
}

// noHandler is an ErrNoHandler in the words that users of containerd know.
type noHandler string

func (h noHandler) Error() string        { return fmt.Sprintf("no runtime for %q is configured", string(h)) }
func (h noHandler) Is(target error) bool { return target == ErrNoHandler }

// Handlers are the OCI runtimes of this node, by name; known once Open has passed.
func (r *Runtime) Handlers() []Handler {
	names := []string{"", usualHandler}
	for name := range r.cfg.Handlers {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var list []Handler
	for _, name := range names {
		list = append(list, Handler{Name: name, Features: r.features[r.program(name)]})
	}
	return list
}

// FeaturesOf a handler; none of one that is not known.
func (r *Runtime) FeaturesOf(handler string) Features { return r.features[r.program(handler)] }

// abilities is what `runc features` prints, as far as it is read here: github.com/opencontainers/runtime-spec, features.md.
type abilities struct {
	MountOptions []string `json:"mountOptions"`
	Linux        struct {
		Namespaces []string `json:"namespaces"`
	} `json:"linux"`
}

// learnFeatures asks each OCI runtime once what it can do. One that does not say can do nothing special.
func (r *Runtime) learnFeatures(ctx context.Context) map[string]Features {
	known := make(map[string]Features)
	programs := []string{r.cfg.OCIRuntime}
	for _, p := range r.cfg.Handlers {
		programs = append(programs, p)
	}
	for _, p := range programs {
		if _, asked := known[p]; asked {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		out, err := exec.CommandContext(ctx, or(p, usualHandler), "features").Output()
		cancel()
		var can abilities
		if err == nil {
			err = json.Unmarshal(out, &can)
		}
		if err != nil {
			r.log.Warn("the OCI runtime does not tell its features", zap.String("program", or(p, usualHandler)), zap.Error(err))
		}
		known[p] = Features{
			RecursiveReadOnly: slices.Contains(can.MountOptions, "rro") && r.kernel.recursive,
			UserNamespaces:    slices.Contains(can.Linux.Namespaces, "user") && r.kernel.idmap,
		}
	}
	return known
}
