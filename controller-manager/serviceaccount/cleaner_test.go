package serviceaccount

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/accounts"
	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

func TestDue(t *testing.T) {
	const period = 10 * day
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	midnight := noon.Truncate(day)
	for _, c := range []struct {
		name string
		used string
		want time.Time
		ok   bool
	}{
		{"never used", "", noon.Add(period), true},
		{"used on its first day", "2030-01-01", midnight.Add(day + period), true},
		{"used later", "2030-02-01", midnight.AddDate(0, 1, 1).Add(period), true},
		{"used before it was", "2029-01-01", noon.Add(period), true},
		{"used nobody knows when", "soon", time.Time{}, false},
	} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(noon)}}
		if c.used != "" {
			s.Labels = map[string]string{lastUsedLabel: c.used}
		}
		if got, ok := (&cleaner{period: period}).due(s); ok != c.ok || ok && !got.Equal(c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, got, ok, c.want)
		}
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{invalidSinceLabel: "2030-01-01"}}}
	if at, ok := expires(s, period); !ok || !at.Equal(midnight.Add(day+period)) {
		t.Errorf("goes at %v, %v", at, ok)
	}
	s.Labels[invalidSinceLabel] = "odd"
	if _, ok := expires(s, period); ok {
		t.Error("a label that is no day counts")
	}
}

func TestMentions(t *testing.T) {
	ref, env := corev1.LocalObjectReference{Name: "s"}, &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}
	volume := func(v corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: v}}}
	}
	for name, spec := range map[string]corev1.PodSpec{
		"pull secret": {ImagePullSecrets: []corev1.LocalObjectReference{{Name: "x"}, ref}},
		"environment": {InitContainers: []corev1.Container{{Env: []corev1.EnvVar{{Name: "a"}, {ValueFrom: env}}}}},
		"all of it":   {Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{}, {SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref}}}}}},
		"volume":      volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}),
		"projected":   volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{}, {Secret: &corev1.SecretProjection{LocalObjectReference: ref}}}}}),
		"csi":         volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &ref}}),
		"iscsi":       volume(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{SecretRef: &ref}}),
	} {
		p := &corev1.Pod{Spec: spec}
		if !mentions(p, "s") || mentions(p, "other") || mentions(p, "") {
			t.Errorf("%s: it is not told what the pod mentions", name)
		}
	}
	if mentions(&corev1.Pod{Spec: volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}})}, "s") {
		t.Error("a volume without a secret mentions one")
	}
}

// Tokens of an account's own that nobody has used are made invalid and then deleted; others stay. The API server tells by itself since
// when it notes their use; the test has that, and what stands on the secrets, be long ago.
func TestLegacyTokens(t *testing.T) {
	c := testcluster.Start(t)
	ctx := t.Context()
	core := c.Kube.CoreV1()
	within(t, "the API server tells since when it looks", func() (bool, error) {
		m, err := core.ConfigMaps("kube-system").Get(ctx, trackingMap, metav1.GetOptions{})
		if err != nil || m.Data[trackingSince] == "" {
			return false, err
		}
		m.Data[trackingSince] = "2020-01-01"
		_, err = core.ConfigMaps("kube-system").Update(ctx, m, metav1.UpdateOptions{})
		return err == nil, err
	})
	robot := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}
	put := func(name string, labels map[string]string) {
		t.Helper()
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}}, Type: corev1.SecretTypeServiceAccountToken}
		if _, err := core.Secrets("default").Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if name != "manual" {
			robot.Secrets = append(robot.Secrets, corev1.ObjectReference{Name: name})
		}
	}
	today := time.Now().UTC().Format(time.DateOnly)
	put("idle", nil)
	put("used", map[string]string{lastUsedLabel: today})
	put("odd", map[string]string{lastUsedLabel: "odd"})
	put("invalid", map[string]string{invalidSinceLabel: "2020-01-01"})
	put("mounted", map[string]string{invalidSinceLabel: "2020-01-01"})
	put("manual", map[string]string{invalidSinceLabel: "2020-01-01"})
	put("zz", nil) // the last that is looked at
	if _, err := core.ServiceAccounts("default").Create(ctx, robot, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mounted"}}}}}}
	if _, err := core.Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	// With the rights of the account that the table names.
	clients := c.Clients("system:kube-controller-manager")
	anonymous, err := client.Anonymous(c.Config("system:kube-controller-manager"))
	if err != nil {
		t.Fatal(err)
	}
	crew := loop.NewCrew([]loop.Line{{Name: "cleaner", Account: "legacy-service-account-token-cleaner", New: LegacyTokens(time.Millisecond), Workers: 1}}, clients,
		accounts.New(anonymous, clients.Kube.CoreV1()).As, events.New(clients.Kube, "controller-manager", ""), prometheus.NewRegistry(), logging.ForTest(t))
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := crew.Run(running); err != nil && running.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	within(t, "those not used are invalid, and what was so for long is gone", func() (bool, error) {
		for _, name := range []string{"idle", "zz"} {
			s, err := core.Secrets("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil || s.Labels[invalidSinceLabel] == "" {
				return false, err
			}
		}
		_, err := core.Secrets("default").Get(ctx, "invalid", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	for name, want := range map[string]string{"used": "", "odd": "", "mounted": "2020-01-01", "manual": "2020-01-01"} {
		s, err := core.Secrets("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil || s.Labels[invalidSinceLabel] != want {
			t.Errorf("%s: %v, %v", name, fmt.Sprint(s.Labels), err)
		}
	}
}
