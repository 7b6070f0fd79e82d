package containers

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHolderEnds: a holder does not outlive the thread that made it, and so not a kubelet that is killed.
func TestHolderEnds(t *testing.T) {
	made := make(chan *holder, 1)
	go onOwnThread(func() {
		h, err := hold(idsEach, unix.CLONE_NEWNET)
		if err != nil {
			t.Error(err)
		}
		made <- h
	})
	h := <-made
	if h == nil {
		return
	}
	over := make(chan *os.ProcessState, 1)
	go func() {
		_ = h.cmd.Wait() // that it was killed is no news
		over <- h.cmd.ProcessState
	}()
	select {
	case <-over:
	case <-time.After(30 * time.Second):
		t.Error("the holder lives on without its thread")
		if err := h.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
}
