package bootstraptokens

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

// Cleaner is the constructor of what deletes tokens that have ended.
func Cleaner(t loop.Tools) loop.Controller {
	tokens := secrets(t)
	lister := corelisters.NewSecretLister(tokens.GetIndexer())
	return loop.Controller{
		Watches: []loop.Watch{{Resource: "secrets", Only: tokens, Wakes: loop.Self}},
		Reconcile: func(ctx context.Context, key loop.Key) (time.Duration, error) {
			s, err := lister.Secrets(key.Namespace).Get(key.Name)
			if apierrors.IsNotFound(err) {
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			at, does := ends(s)
			if !does || s.Type != secretType {
				return 0, nil
			}
			if wait := time.Until(at); wait > 0 {
				return wait, nil
			}
			// Its version too: a token that somebody prolongs just now is not the one that has ended.
			opts := *metav1.NewPreconditionDeleteOptions(string(s.UID))
			opts.Preconditions.ResourceVersion = &s.ResourceVersion
			err = t.Clients.Kube.CoreV1().Secrets(s.Namespace).Delete(ctx, s.Name, opts)
			if err != nil && !apierrors.IsNotFound(err) {
				return 0, fmt.Errorf("deleting a token that has ended: %w", err)
			}
			return 0, nil
		},
	}
}
