package nftables_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/testnet"
)

// nft runs the tool in the node's namespace, as a person would.
func (w *world) nft(t testing.TB, args ...string) string {
	t.Helper()
	var out []byte
	w.Node.Do(t, func() (err error) {
		out, err = exec.Command("nft", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft %v: %w: %s", args, err, out)
		}
		return nil
	})
	return string(out)
}

func TestTamperingIsRepaired(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		for _, c := range []struct {
			name   string
			tamper []string
		}{
			{"table deleted", []string{"delete table TABLE"}},
			{"table flushed", []string{"flush table TABLE"}},
			{"chain flushed", []string{"flush chain TABLE dispatch"}},
			{"rule inserted", []string{"insert rule TABLE dispatch drop"}},
			{"choosing chain flushed", []string{"flush chain TABLE cluster-2"}},
			{"chain added", []string{"add chain TABLE mine { type filter hook input priority 0; policy drop; }"}},
			{"map flushed", []string{"flush map TABLE services"}},
			{"element deleted", []string{"delete element TABLE services { CLUSTER . tcp . 80 }"}},
			{"element added", []string{"add element TABLE cluster-ips { HOST }"}},
			{"element changed", []string{"delete element TABLE services { CLUSTER . tcp . 80 }", "add element TABLE services { CLUSTER . tcp . 80 : 0:0 }"}},
			{"way changed", []string{"flush map TABLE ways"}},
			{"rule deleted", []string{"delete rule TABLE dispatch handle HANDLE"}},
			{"set added", []string{"add set TABLE mine { type inet_service; }"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				w := newWorldOf(t, v6, 2)
				w.set(t, w.service(changes.TCP, w.Pods...))
				before := w.nft(t, "list", "table", w.table, "kube-proxy")
				rule := regexp.MustCompile(`node ports #.*# handle (\d+)`).FindStringSubmatch(w.nft(t, "-a", "list", "chain", w.table, "kube-proxy", "dispatch"))
				if rule == nil {
					t.Fatal("the rule for node ports is not listed")
				}
				for _, cmd := range c.tamper {
					w.nft(t, strings.NewReplacer("TABLE", w.table+" kube-proxy", "CLUSTER", w.cluster.String(), "HOST", w.hostIP.String(), "HANDLE", rule[1]).Replace(cmd))
				}
				stats, err := w.writer.Verify()
				if err != nil {
					t.Fatalf("verifying: %v", err)
				}
				if !stats.Repaired {
					t.Error("nothing was noticed")
				}
				if after := w.nft(t, "list", "table", w.table, "kube-proxy"); after != before {
					t.Errorf("the table is not as it was:\n%s\nwas:\n%s", after, before)
				}
				answers(t, w.Host, "tcp", w.clusterAt, 3)

				if stats, err = w.writer.Verify(); err != nil || stats.Repaired {
					t.Errorf("a second look found something: %+v, %v", stats, err)
				}
			})
		}
	})
}

func TestForeignTablesAreLeftAlone(t *testing.T) {
	w := newWorld(t, 1)
	w.nft(t, "add table ip other; add chain ip other kube; add rule ip other kube counter")
	w.set(t, w.service(changes.TCP, w.Pods...))
	w.nft(t, "add rule ip other kube counter")
	stats, err := w.writer.Verify()
	if err != nil || stats.Repaired {
		t.Errorf("got %+v, %v", stats, err)
	}
	w.nft(t, "list table ip other")
}

// A change is refused because the table is gone: the Writer mends at once, not
// at the next Verify.
func TestChangeAfterTheTableWasDeleted(t *testing.T) {
	w := newWorld(t, 2)
	w.set(t, w.service(changes.TCP, w.Pods[0]))
	w.nft(t, "delete table ip kube-proxy")
	stats := w.set(t, w.service(changes.TCP, w.Pods[1]))
	if !stats.Repaired {
		t.Error("want a repair")
	}
	if got := answers(t, w.Host, "tcp", w.clusterAt, 5); got[w.Pods[1].Name] != 5 {
		t.Errorf("got %v", got)
	}
}

// A new daemon takes over the table of the one before: what is right stays,
// clients stay with their endpoints, what is stale goes.
func TestTakingOverAnOlderTable(t *testing.T) {
	w := newWorld(t, 4)
	sticky := w.service(changes.TCP, w.Pods...)
	sticky.Affinity = time.Hour
	stale := w.service(changes.UDP, w.Pods...)
	// The numbers of the endpoints have a history: the third pod has number 0.
	less := w.service(changes.TCP, w.Pods[2])
	w.set(t, less)
	w.set(t, sticky, stale)
	first, err := w.Host.Call("tcp", w.clusterAt)
	if err != nil {
		t.Fatal(err)
	}

	w.writer = newWriterFor(t, w.Net, w.config())
	if stats := w.set(t, sticky); stats.Elements != 10 {
		t.Errorf("%d elements changed; the stale service has 10", stats.Elements)
	}
	if got := answers(t, w.Host, "tcp", w.clusterAt, 20); got[first.From] != 20 {
		t.Errorf("the client left %s: %v", first.From, got)
	}
	if _, err := w.Host.Call("udp", w.clusterAt); !testnet.Refused(err) {
		t.Errorf("a service that is gone was still there: %v", err)
	}
}

// While a table that fits nothing is replaced, calls run: none may fail.
func TestReplacingAForeignTableFailsNoCall(t *testing.T) {
	w := newWorld(t, 1)
	w.nft(t, fmt.Sprintf(`table ip kube-proxy {
		chain old { type nat hook prerouting priority -100; ip daddr %s tcp dport 80 dnat to %s:%d; }
		chain out { type nat hook output priority -100; ip daddr %s tcp dport 80 dnat to %s:%d; }
		chain back { type nat hook postrouting priority 100; masquerade; }
	}`, w.cluster, w.Pods[0].IP, servePort, w.cluster, w.Pods[0].IP, servePort))

	stop, failed := make(chan struct{}), make(chan error, 1)
	started := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			if _, err := w.Host.Call("tcp", w.clusterAt); err != nil {
				failed <- err
				return
			}
			if i == 20 {
				close(started)
			}
		}
	}()
	select {
	case <-started:
	case err := <-failed:
		t.Fatalf("before the change: %v", err)
	}
	stats := w.set(t, w.service(changes.TCP, w.Pods...))
	answers(t, w.Host, "tcp", w.nodeAt, 20)
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if !stats.Repaired {
		t.Error("the older table was taken for ours")
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t, 1)
	if err := w.writer.Remove(); err != nil {
		t.Fatalf("removing what is not there: %v", err)
	}
	w.set(t, w.service(changes.TCP, w.Pods...))
	if err := w.writer.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := w.nft(t, "list", "ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}
