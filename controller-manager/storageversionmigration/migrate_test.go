package storageversionmigration

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// All secrets are sealed anew under another key, over a restart of the controller and while others write; then the old key is not
// needed any more.
func TestMigrate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	put := func(providers ...string) {
		t.Helper()
		text := "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [" + strings.Join(providers, ", ") + "]\n"
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	provider := func(name string, fill byte) string {
		return fmt.Sprintf("{secretbox: {keys: [{name: %s, secret: %s}]}}", name, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)))
	}
	one, two := provider("one", 1), provider("two", 2)
	put(one)
	c := testcluster.Start(t, "--encryption-provider-config="+file)
	ctx := t.Context()
	secrets := c.Kube.CoreV1().Secrets("default")
	const many = page + 100
	for i := range many {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s-%03d", i)}, StringData: map[string]string{"k": fmt.Sprint(i)}}
		if _, err := secrets.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put(two, one)
	until(t, "the new key is known", func() (bool, error) {
		b, err := c.Kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		return bytes.Contains(b, []byte(`automatic_reloads_total{status="success"} 1`)), err
	})

	var patches atomic.Int64
	var hook atomic.Pointer[func(ctx context.Context, name string) *http.Response]
	start := func() (stop func()) {
		cfg := c.Config("admin", "system:masters")
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return through(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPatch {
					patches.Add(1)
					if h := hook.Load(); h != nil {
						if answer := (*h)(r.Context(), r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]); answer != nil {
							answer.Request = r
							return answer, nil
						}
					}
				}
				return next.RoundTrip(r)
			})
		})
		clients, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		crew := loop.NewCrew([]loop.Line{{Name: "storageversionmigrator", New: New, Workers: 2}}, clients, nil, events.New(clients.Kube, "controller-manager", ""), prometheus.NewRegistry(), logging.ForTest(t))
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		var running sync.WaitGroup
		running.Go(func() {
			if err := crew.Run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
		return func() { cancel(); running.Wait() }
	}
	migrate := func(name string) {
		t.Helper()
		m := &storagemigrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagemigrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Resource: "secrets"}}}
		if _, err := c.Kube.StoragemigrationV1().StorageVersionMigrations().Create(ctx, m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// came is the message of a condition once it is true; that of running must be there, and false.
	came := func(name, condition string) string {
		t.Helper()
		var is *metav1.Condition
		until(t, name+" is "+condition, func() (bool, error) {
			m, err := c.Kube.StoragemigrationV1().StorageVersionMigrations().Get(ctx, name, metav1.GetOptions{})
			if err != nil || !meta.IsStatusConditionTrue(m.Status.Conditions, condition) {
				return false, err
			}
			is = meta.FindStatusCondition(m.Status.Conditions, condition)
			if r := meta.FindStatusCondition(m.Status.Conditions, "Running"); condition != "Running" && (r == nil || r.Status != "False" || r.Reason != "StorageVersionMigrationInProgress") {
				t.Errorf("when it is %s, of running it says %+v", condition, r)
			}
			return true, nil
		})
		if want := reasons[storagemigrationv1.MigrationConditionType(condition)]; is.Reason != want {
			t.Errorf("%s has the reason %s, want %s", condition, is.Reason, want)
		}
		return is.Message
	}

	// The controller ends in the midst of it; and somebody else writes an object just before it does.
	halfway := make(chan struct{})
	cut := func(request context.Context, name string) *http.Response {
		switch name {
		case "s-050":
			s, err := secrets.Get(ctx, name, metav1.GetOptions{})
			if err == nil {
				s.StringData = map[string]string{"k": "changed"}
				_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
			}
			if err != nil {
				t.Error(err)
			}
		case "s-300":
			close(halfway)
			<-request.Done()
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: http.NoBody}
		}
		return nil
	}
	hook.Store(&cut)
	stop := start()
	migrate("first")
	<-halfway
	stop()
	hook.Store(nil)
	if was := patches.Load(); was < 300 || was >= many {
		t.Errorf("it wrote %d of %d before it ended", was, many)
	}
	before := patches.Load()
	stop = start()
	defer func() { stop() }()
	if message := came("first", "Succeeded"); message != "" {
		t.Errorf("succeeded: %s", message)
	}
	if again := patches.Load() - before; again > many-299 {
		t.Errorf("after the restart it wrote %d, as if nothing had been done", again)
	}
	s, err := secrets.Get(ctx, "s-050", metav1.GetOptions{})
	if err != nil || string(s.Data["k"]) != "changed" || len(s.ManagedFields) != 1 {
		t.Errorf("what was written meanwhile is %+v, %v", s, err)
	}

	// One object that cannot be written keeps none of the others.
	refuse := func(_ context.Context, name string) *http.Response {
		if name != "s-007" {
			return nil
		}
		return &http.Response{StatusCode: http.StatusUnprocessableEntity, Header: http.Header{"Content-Type": {"text/plain"}}, Body: http.NoBody}
	}
	hook.Store(&refuse)
	before = patches.Load()
	migrate("second")
	if message := came("second", "Failed"); !strings.HasPrefix(message, "migration encountered unhandled error: 1 objects could not be written, the first is default/s-007: ") {
		t.Errorf("failed: %s", message)
	}
	if all := patches.Load() - before; all < many {
		t.Errorf("it tried %d of %d", all, many)
	}

	// Nothing is left under the old key.
	put(two)
	c.KillAPIServer()
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	list, err := secrets.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != many {
		t.Errorf("without the old key, %d secrets are read: %v", len(list.Items), err)
	}
}

func until(t *testing.T, what string, is func() (bool, error)) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ok, err := is()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s: %v", what, err)
		}
	}
}
