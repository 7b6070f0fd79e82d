package pods_test

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TrustBundle finds none: no pod of these tests names one.
func (a *api) TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	return nil, apierrors.NewNotFound(certificatesv1.Resource("clustertrustbundles"), name)
}

// TrustBundles are none.
func (a *api) TrustBundles(string) ([]*certificatesv1.ClusterTrustBundle, error) { return nil, nil }
