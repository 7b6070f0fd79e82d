package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// How often Follow looks again without having heard of a change: while something is wrong, and where plugins must be asked how they are.
const (
	wrongAgain  = 2 * time.Second
	statusAgain = 10 * time.Second
	sweepAgain  = 30 * time.Second
	// settle is how long a file may be being written after a change of it was heard of.
	settle = 100 * time.Millisecond
)

// Follow follows the CNI configuration until the context ends: it tells changed when the network may have become ready, or no longer is, and at the
// start gives up what pods left that are no more. Without a folder for configurations there is nothing to do.
func (n *Network) Follow(ctx context.Context, changed func()) error {
	if n.cni == nil {
		<-ctx.Done()
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching for CNI configurations: %w", err)
	}
	defer w.Close()
	// Whoever installs a network expects the folder.
	if err := errors.Join(os.MkdirAll(n.cni.confDir, 0o755), w.Add(n.cni.confDir)); err != nil {
		return fmt.Errorf("watching for CNI configurations: %w", err)
	}
	var was state
	var living []string
	swept := false
	sweep := time.NewTimer(time.Hour)
	sweep.Stop()
	defer sweep.Stop()
	for {
		now, again := n.cni.look(ctx)
		if now != was {
			n.tell(ctx, was, now)
			was = now
			changed()
		}
		var wake <-chan time.Time
		if again > 0 {
			wake = time.After(again)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("watching for CNI configurations: the watch ended")
			}
			if err := pause(ctx, settle); err != nil {
				return nil
			}
		case err := <-w.Errors:
			n.log.Warn("watching for CNI configurations", zap.Error(err))
		case living = <-n.cni.known:
			sweep.Reset(0)
		case <-sweep.C:
			if swept = swept || n.sweep(ctx, living); !swept {
				sweep.Reset(sweepAgain)
			}
		}
	}
}

// state is what Follow has seen: which configuration is used, and what is wrong.
type state struct{ name, wrong string }

// look says how things are, and when to look again although nothing was heard; 0: never.
func (p *plugins) look(ctx context.Context) (state, time.Duration) {
	list, err := p.installed()
	again := time.Duration(0)
	if err == nil && list != nil && since(list, "1.1.0") {
		p.askStatus(ctx, list)
		again = statusAgain
	}
	now := state{}
	if list != nil {
		now.name = list.Name
	}
	if _, wrong := p.ready(); wrong != nil {
		now.wrong = wrong.Error()
		again = wrongAgain
	}
	return now, again
}

// tell says what changed, and takes our routes away where another network begins.
func (n *Network) tell(ctx context.Context, was, now state) {
	switch {
	case now.wrong != "":
		n.log.Warn("the CNI configuration cannot be used", zap.String("reason", now.wrong))
	case now.name != "":
		n.log.Info("pods are joined by CNI plugins", zap.String("network", now.name))
		if err := n.SetRoutes(ctx, nil); err != nil {
			n.log.Warn("removing our routes", zap.Error(err))
		}
	case was != state{}:
		n.log.Info("there is no CNI configuration any more: pods are joined by the built-in network")
	}
}

// sweep undoes what is left of pods that are no more, and says whether all is done.
func (n *Network) sweep(ctx context.Context, living []string) bool {
	left, err := n.cni.leftovers(living)
	if err != nil {
		n.log.Warn("looking for what pods left", zap.Error(err))
		return false
	}
	done := true
	for key, netns := range left {
		if err := n.sweepOne(ctx, key, netns); err != nil {
			n.log.Warn("undoing what a pod left", zap.String("pod", key), zap.Error(err))
			done = false
		}
	}
	list, err := n.cni.installed()
	if err != nil || list == nil {
		return done && err == nil
	}
	if n.cni.missing(list) != nil {
		return false
	}
	if err := n.cni.collect(ctx, list); err != nil {
		n.log.Warn("having CNI plugins collect garbage", zap.Error(err))
		return false
	}
	return done
}

// sweepOne leaves alone what was joined since, in another namespace: the pod came back.
func (n *Network) sweepOne(ctx context.Context, key, netns string) error {
	defer n.lockPod(key)()
	n.cni.calls.RLock()
	defer n.cni.calls.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, n.cni.patience)
	defer cancel()
	return n.cni.undoAll(ctx, key, func(k *libcni.NetworkAttachment) bool { return k.NetNS == netns })
}

// pause waits; an error means that the context has ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
