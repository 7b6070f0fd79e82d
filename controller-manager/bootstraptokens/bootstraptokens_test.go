package bootstraptokens

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func token(id string, change func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id}, Type: secretType, Data: map[string][]byte{
		"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true"),
	}}
	if change != nil {
		change(s)
	}
	return s
}

func set(key, value string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Data[key] = []byte(value) }
}

func TestNext(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	have := &corev1.ConfigMap{Data: map[string]string{"kubeconfig": "x", "jws-kubeconfig-gone00": "old", "other": "y"}}
	want, again, err := next(have, []*corev1.Secret{
		token("aaaaaa", nil),
		token("bbbbbb", set("expiration", in(time.Hour))),
		token("cccccc", set("expiration", in(-time.Hour))),
		token("dddddd", set("expiration", "tomorrow")),
		token("eeeeee", set("usage-bootstrap-signing", "no")),
		token("ffffff", set("token-secret", "short")),
		token("gggggg", set("token-id", "hhhhhh")),
		token("iiiiii", func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }),
		token("jjjjjj", func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} }),
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(want.Data)); !slices.Equal(got, []string{"jws-kubeconfig-aaaaaa", "jws-kubeconfig-bbbbbb", "kubeconfig", "other"}) {
		t.Errorf("it has %v", got)
	}
	if again.Round(time.Second) != time.Hour.Round(time.Second) && again.Round(time.Second) != time.Hour-time.Second {
		t.Errorf("looks again after %v, want when the first token ends", again)
	}
	if have.Data["jws-kubeconfig-gone00"] == "" {
		t.Error("what was read was changed")
	}
	empty, _, err := next(&corev1.ConfigMap{Data: map[string]string{"jws-kubeconfig-aaaaaa": "old"}}, []*corev1.Secret{token("aaaaaa", nil)}, now)
	if err != nil || len(empty.Data) != 0 {
		t.Errorf("nothing was signed: %v %v", empty.Data, err)
	}
}

// The signature that clients compute themselves of this text by this token.
func TestSign(t *testing.T) {
	got, err := sign("Hello from the other side. I must have called a thousand times.", "joshua", []byte("my voice is my passcode"))
	if want := "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
