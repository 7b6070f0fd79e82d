package tokens

import (
	"errors"
	"fmt"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/logging"
)

// TestToken follows a token through its life: kept, renewed at four fifths, kept on when the API fails, refused when it says no.
func TestToken(t *testing.T) {
	now, asked := time.Unix(1_000_000, 0), 0
	var fail error
	kube := fake.NewSimpleClientset()
	kube.PrependReactor("create", "serviceaccounts", func(a k8stesting.Action) (bool, runtime.Object, error) {
		if fail != nil {
			return true, nil, fail
		}
		r := a.(k8stesting.CreateAction).GetObject().(*authenticationv1.TokenRequest)
		ref := r.Spec.BoundObjectRef
		if a.GetSubresource() != "token" || ref == nil || ref.Kind != "Pod" || ref.Name != "web" || ref.UID != "u1" || len(r.Spec.Audiences) != 1 || r.Spec.Audiences[0] != "vault" {
			t.Errorf("asked %+v", r.Spec)
		}
		asked++
		r.Status.Token = fmt.Sprint("token ", asked)
		return true, r, nil
	})
	tokens := New(kube.CoreV1(), logging.ForTest(t))
	tokens.now = func() time.Time { return now }
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"}, Spec: corev1.PodSpec{ServiceAccountName: "shopper"}}
	wish := &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: ptr.To[int64](1000)}
	want := func(text string) {
		t.Helper()
		got, renew, err := tokens.Token(t.Context(), pod, wish)
		if err != nil || got != text {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
		if !renew.After(now) {
			t.Errorf("to be renewed at %v, in the past of %v", renew, now)
		}
	}
	want("token 1")
	now = now.Add(700 * time.Second)
	want("token 1")
	now = now.Add(101 * time.Second) // 801 of 1000
	want("token 2")
	now = now.Add(810 * time.Second)
	fail = errors.New("away")
	want("token 2")
	now = now.Add(200 * time.Second)
	if _, _, err := tokens.Token(t.Context(), pod, wish); err == nil {
		t.Error("a token that has ended is still given out")
	}
	fail = nil
	want("token 3")
	now = now.Add(810 * time.Second)
	fail = apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, "shopper", errors.New("no"))
	if _, _, err := tokens.Token(t.Context(), pod, wish); !apierrors.IsForbidden(err) {
		t.Errorf("refused, and still %v", err)
	}
	fail = nil
	tokens.Forget("u1")
	want("token 4")
}

func TestYoung(t *testing.T) {
	for _, c := range []struct{ life, least, most time.Duration }{
		{time.Hour, 48*time.Minute - jitter, 48 * time.Minute},
		{10 * time.Minute, 8*time.Minute - jitter, 8 * time.Minute},
		{1000 * time.Hour, oldest - jitter, oldest},
	} {
		for range 100 {
			if got := young(c.life); got < c.least || got > c.most {
				t.Errorf("of %v: %v, want %v to %v", c.life, got, c.least, c.most)
			}
		}
	}
}
