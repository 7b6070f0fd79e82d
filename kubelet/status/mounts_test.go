package status

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestRecursiveReadOnly(t *testing.T) {
	mode := func(m corev1.RecursiveReadOnlyMode) *corev1.RecursiveReadOnlyMode { return &m }
	both := corev1.MountPropagationBidirectional
	for name, tc := range map[string]struct {
		mount corev1.VolumeMount
		can   bool
		want  bool
		fails string
		told  *corev1.RecursiveReadOnlyMode
	}{
		"nothing said":                 {corev1.VolumeMount{ReadOnly: true}, true, false, "", mode("Disabled")},
		"writable":                     {corev1.VolumeMount{}, true, false, "", nil},
		"enabled":                      {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Enabled")}, true, true, "", mode("Enabled")},
		"enabled, but it cannot be":    {corev1.VolumeMount{Name: "v", ReadOnly: true, RecursiveReadOnly: mode("Enabled")}, false, false, `volume "v" requested recursive read-only mode, but it is not supported by the runtime`, mode("Disabled")},
		"if possible, and it is":       {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("IfPossible")}, true, true, "", mode("Enabled")},
		"if possible, and it is not":   {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("IfPossible")}, false, false, "", mode("Disabled")},
		"writable and enabled":         {corev1.VolumeMount{Name: "v", RecursiveReadOnly: mode("Enabled")}, true, false, `volume "v" requested recursive read-only mode, but it is not read-only`, nil},
		"enabled, but told to another": {corev1.VolumeMount{Name: "v", ReadOnly: true, RecursiveReadOnly: mode("Enabled"), MountPropagation: &both}, true, false, `volume "v" requested recursive read-only mode, but it is not compatible with propagation "Bidirectional"`, mode("Disabled")},
	} {
		got, err := RecursiveReadOnly(tc.mount, tc.can)
		if got != tc.want || (err != nil) != (tc.fails != "") || err != nil && err.Error() != tc.fails {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		told := mounts(&corev1.Container{VolumeMounts: []corev1.VolumeMount{tc.mount}}, tc.can, nil)
		if len(told) != 1 || !reflect.DeepEqual(told[0].RecursiveReadOnly, tc.told) {
			t.Errorf("%s: told %+v", name, told)
		}
	}
}

// TestImageVolume: a mount of a volume that shows an image tells which one.
func TestImageVolume(t *testing.T) {
	c := &corev1.Container{VolumeMounts: []corev1.VolumeMount{{Name: "image"}, {Name: "other"}}}
	told := mounts(c, true, map[string]string{"image": "reg.test/app@sha256:1"})
	if told[0].VolumeStatus == nil || told[0].VolumeStatus.Image.ImageRef != "reg.test/app@sha256:1" || told[1].VolumeStatus != nil {
		t.Errorf("told: %+v", told)
	}
}
