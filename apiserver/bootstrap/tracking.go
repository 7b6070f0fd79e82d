package bootstrap

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Where it is told since when the use of tokens kept in secrets is noted
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-tracking-controller):
// what has no note before that day says nothing.
const (
	trackingMap   = "kube-apiserver-legacy-service-account-token-tracking"
	trackingSince = "since"
)

// tracking tells it, from the day on which a server first did.
func (b *Bootstrap) tracking(ctx context.Context) error {
	client := b.core.ConfigMaps(metav1.NamespaceSystem)
	have, err := client.Get(ctx, trackingMap, metav1.GetOptions{ResourceVersion: "0"})
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: trackingMap}, Data: tracked(nil, time.Now())}, metav1.CreateOptions{})
	case err == nil:
		if want := tracked(have.Data, time.Now()); want != nil {
			have.Data = want
			_, err = client.Update(ctx, have, metav1.UpdateOptions{})
		}
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) { // another server was quicker; the next round looks again
		return fmt.Errorf("telling since when the use of tokens is noted: %w", err)
	}
	return nil
}

// tracked is what to write in the place of have: nil when that names a day.
func tracked(have map[string]string, now time.Time) map[string]string {
	if _, err := time.Parse(time.DateOnly, have[trackingSince]); err == nil {
		return nil
	}
	return map[string]string{trackingSince: now.UTC().Format(time.DateOnly)}
}
