package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"pilothouse.dev/pkg/client"
)

// Nodes join by a bootstrap token, by the names that kubeadm uses: the token's bearer may ask for a node's certificate, which is
// approved at once; nodes may renew theirs; and anybody may read where the cluster is, signed by the token.
const (
	joiners   = "system:bootstrappers:kubeadm:default-node-token"
	tokenLife = time.Hour
	infoName  = "cluster-info"
	infoRole  = "kubeadm:bootstrap-signer-clusterinfo"
)

var joinGrants = []struct{ binding, role, group string }{
	{"kubeadm:kubelet-bootstrap", "system:node-bootstrapper", joiners},
	{"kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", joiners},
	{"kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"},
}

// bootstrapKubeconfig is by what a new node asks for its certificate.
func (c *cluster) bootstrapKubeconfig() string { return c.kubeconfigOf("bootstrap") }

// welcome makes what nodes join by, unless all of these have joined.
func (c *cluster) welcome(ctx context.Context, nodes ...*node) error {
	joined := true
	for _, n := range nodes {
		joined = joined && c.joined(n, time.Now())
	}
	if joined {
		return nil
	}
	cfg, err := client.Load(c.kubeconfigOf(superAdmin), "cluster")
	if err != nil {
		return err
	}
	clients, err := client.New(cfg)
	if err != nil {
		return err
	}
	info, err := os.ReadFile(c.cert(clusterCA))
	if err != nil {
		return fmt.Errorf("reading the cluster's authority: %w", err)
	}
	id, secret := word(6), word(16)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return makeToken(gctx, clients.Kube, id, secret) })
	g.Go(func() error { return c.tellWhere(gctx, clients.Kube, info) })
	for _, b := range joinGrants {
		g.Go(func() error {
			_, err := clients.Kube.RbacV1().ClusterRoleBindings().Create(gctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: b.binding},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: b.role},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: b.group}},
			}, metav1.CreateOptions{})
			return unlessThere(err, "granting "+b.role)
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("preparing for nodes to join: %w", err)
	}
	boot := clientcmdapi.NewConfig()
	boot.Clusters[c.name] = &clientcmdapi.Cluster{Server: c.server(), CertificateAuthority: c.cert(clusterCA)}
	boot.AuthInfos["joiner"] = &clientcmdapi.AuthInfo{Token: id + "." + secret}
	boot.Contexts["join"] = &clientcmdapi.Context{Cluster: c.name, AuthInfo: "joiner"}
	boot.CurrentContext = "join"
	data, err := clientcmd.Write(*boot)
	if err != nil {
		return fmt.Errorf("rendering the bootstrap kubeconfig: %w", err)
	}
	return replaceFile(c.bootstrapKubeconfig(), data)
}

// joined says whether a node has a certificate that holds.
func (c *cluster) joined(n *node, now time.Time) bool {
	if _, err := os.Stat(c.kubeconfigOf(n.Name + "-kubelet")); err != nil {
		return false
	}
	data, err := os.ReadFile(c.path("nodes", n.Name, "kubelet", "pki", "kubelet-client-current.pem"))
	if err != nil {
		return false
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && now.Before(cert.NotAfter)
}

// makeToken makes a bootstrap token (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
func makeToken(ctx context.Context, kube kubernetes.Interface, id, secret string) error {
	_, err := kube.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "expiration": time.Now().Add(tokenLife).UTC().Format(time.RFC3339),
			"usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true", "auth-extra-groups": joiners,
			"description": "made by the command cluster, for nodes to join",
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("making a bootstrap token: %w", err)
	}
	return nil
}

// tellWhere publishes the API server's address and authority, for who has only a token.
func (c *cluster) tellWhere(ctx context.Context, kube kubernetes.Interface, authority []byte) error {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[""] = &clientcmdapi.Cluster{Server: c.server(), CertificateAuthorityData: authority}
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("rendering %s: %w", infoName, err)
	}
	_, err = kube.CoreV1().ConfigMaps(metav1.NamespacePublic).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: infoName}, Data: map[string]string{"kubeconfig": string(data)},
	}, metav1.CreateOptions{})
	if err := unlessThere(err, "publishing "+infoName); err != nil {
		return err
	}
	_, err = kube.RbacV1().Roles(metav1.NamespacePublic).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: infoRole},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{infoName}}},
	}, metav1.CreateOptions{})
	if err := unlessThere(err, "letting "+infoName+" be read"); err != nil {
		return err
	}
	_, err = kube.RbacV1().RoleBindings(metav1.NamespacePublic).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: infoRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: infoRole},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "system:anonymous"}},
	}, metav1.CreateOptions{})
	return unlessThere(err, "letting "+infoName+" be read")
}

func unlessThere(err error, doing string) error {
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// word is n letters and digits that nobody can guess: each of 32, so that all are as likely.
func word(n int) string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789"
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}
