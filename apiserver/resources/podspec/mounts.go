package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	propagations = sets.New(corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	bindOptions  = sets.New(corev1.BindMountOptionNoExec, corev1.BindMountOptionNoDev, corev1.BindMountOptionNoSUID)
	recursions   = sets.New(corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled)
)

// validateMounts checks where volumes appear in a container.
func validateMounts(c *corev1.Container, volumes map[string]*corev1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	places, devices, nodes := sets.New[string](), sets.New[string](), sets.New[string]()
	for _, d := range c.VolumeDevices {
		devices.Insert(d.Name)
		nodes.Insert(d.DevicePath)
	}
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], at.Child("volumeMounts").Index(i)
		errs = append(errs, required(m.Name, at.Child("name"))...)
		v := volumes[m.Name]
		if m.Name != "" && v == nil {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		errs = append(errs, required(m.MountPath, at.Child("mountPath"))...)
		if places.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		places.Insert(m.MountPath)
		if devices.Has(m.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
		}
		if nodes.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		if m.SubPath != "" {
			errs = append(errs, validateInside(m.SubPath, at.Child("subPath"))...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, validateInside(m.SubPathExpr, at.Child("subPathExpr"))...)
		}
		errs = append(errs, validatePropagation(m, c, at)...)
		errs = append(errs, validateBindOptions(m, v, at.Child("bindMountOptions"))...)
	}
	return errs
}

func validatePropagation(m *corev1.VolumeMount, c *corev1.Container, at *field.Path) field.ErrorList {
	errs := oneOfIfSet(m.MountPropagation, propagations, at.Child("mountPropagation"))
	privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
	if m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
		errs = append(errs, field.Forbidden(at.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
	}
	r := m.RecursiveReadOnly
	if r == nil || *r == corev1.RecursiveReadOnlyDisabled {
		return errs
	}
	path := at.Child("recursiveReadOnly")
	errs = append(errs, oneOfIfSet(r, recursions, path)...)
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(path, "may only be specified when readOnly is true"))
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(path, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

func validateBindOptions(m *corev1.VolumeMount, v *corev1.Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, o := range m.BindMountOptions {
		if !bindOptions.Has(corev1.BindMountOption(o)) {
			errs = append(errs, field.NotSupported(path.Index(i), o, sets.List(bindOptions)))
		}
		if seen.Has(o) {
			errs = append(errs, field.Duplicate(path.Index(i), o))
		}
		seen.Insert(o)
	}
	if len(m.BindMountOptions) > 0 && v != nil && v.Image != nil {
		errs = append(errs, field.Forbidden(path, "not supported with image volumes"))
	}
	return errs
}

// validateDevices checks volumes that appear as block devices.
func validateDevices(c *corev1.Container, volumes map[string]*corev1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	places, names, mounts := sets.New[string](), sets.New[string](), sets.New[string]()
	for _, m := range c.VolumeMounts {
		mounts.Insert(m.MountPath)
	}
	for i, d := range c.VolumeDevices {
		at := at.Child("volumeDevices").Index(i)
		errs = append(errs, required(d.Name, at.Child("name"))...)
		if names.Has(d.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must be unique"))
		}
		names.Insert(d.Name)
		v := volumes[d.Name]
		switch {
		case d.Name != "" && v == nil:
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		case v != nil && v.PersistentVolumeClaim == nil && v.Ephemeral == nil:
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		if d.DevicePath == "" {
			errs = append(errs, field.Required(at.Child("devicePath"), ""))
			continue
		}
		if places.Has(d.DevicePath) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must be unique"))
		}
		places.Insert(d.DevicePath)
		if mounts.Has(d.DevicePath) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
		errs = append(errs, validateNoDotDot(d.DevicePath, at.Child("devicePath"))...)
	}
	return errs
}
