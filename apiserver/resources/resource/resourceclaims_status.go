package resource

import (
	"strings"

	"github.com/google/uuid"
	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/resources/podspec"
)

// validateClaimStatus checks who may use what was allocated, and what drivers report of it.
func validateClaimStatus(c, old *resourcev1.ResourceClaim) field.ErrorList {
	status, s := field.NewPath("status"), &c.Status
	reserved := status.Child("reservedFor")
	errs := set(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, reserved,
		func(r *resourcev1.ResourceClaimConsumerReference) types.UID { return r.UID },
		func(r *resourcev1.ResourceClaimConsumerReference, at *field.Path) field.ErrorList {
			var errs field.ErrorList
			for _, f := range []struct{ name, value string }{{"resource", r.Resource}, {"name", r.Name}, {"uid", string(r.UID)}} {
				if f.value == "" {
					errs = append(errs, field.Required(at.Child(f.name), ""))
				}
			}
			return errs
		})
	have := allocated(s.Allocation)
	errs = append(errs, set(s.Devices, len(s.Devices), status.Child("devices"), idOf, func(d *resourcev1.AllocatedDeviceStatus, at *field.Path) field.ErrorList {
		errs := validateDeviceStatus(d, at)
		if !have.Has(idOf(d)) {
			errs = append(errs, field.Invalid(at, strings.Join([]string{d.Driver, d.Pool, d.Device}, "/"), "must be an allocated device in the claim"))
		}
		return errs
	})...)
	switch {
	case len(s.ReservedFor) == 0:
	case s.Allocation == nil:
		errs = append(errs, field.Forbidden(reserved, "may not be specified when `allocated` is not set"))
	case c.DeletionTimestamp != nil && !sets.New(old.Status.ReservedFor...).HasAll(s.ReservedFor...):
		errs = append(errs, field.Forbidden(reserved, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
	}
	at := status.Child("allocation")
	switch {
	case s.Allocation == nil:
		return errs
	case old.Status.Allocation != nil:
		return append(errs, apivalidation.ValidateImmutableField(s.Allocation, old.Status.Allocation, at)...)
	}
	return append(errs, validateAllocation(s.Allocation, requestRef(requests(&c.Spec)), at)...)
}

func validateAllocation(a *resourcev1.AllocationResult, ref func(*string, *field.Path) field.ErrorList, at *field.Path) field.ErrorList {
	devices := at.Child("devices")
	errs := list(a.Devices.Results, resourcev1.AllocationResultsMaxSize, devices.Child("results"), func(r *resourcev1.DeviceRequestAllocationResult, at *field.Path) field.ErrorList {
		errs := ref(&r.Request, at.Child("request"))
		errs = append(errs, driver(r.Driver, at.Child("driver"))...)
		errs = append(errs, pool(r.Pool, at.Child("pool"))...)
		errs = append(errs, label(r.Device, at.Child("device"))...)
		errs = append(errs, bindings(r.BindingConditions, r.BindingFailureConditions, at)...)
		errs = append(errs, list(r.Tolerations, resourcev1.DeviceTolerationsMaxLength, at.Child("tolerations"), toleration)...)
		errs = append(errs, skips(r.SkipNodeOperations, at.Child("skipNodeOperations"))...)
		if r.ShareID != nil {
			errs = append(errs, share(string(*r.ShareID), at.Child("shareID"))...)
		}
		return errs
	})
	errs = append(errs, list(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, devices.Child("config"), func(c *resourcev1.DeviceAllocationConfiguration, at *field.Path) field.ErrorList {
		var errs field.ErrorList
		switch c.Source {
		case "":
			errs = append(errs, field.Required(at.Child("source"), ""))
		case resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass:
		default:
			errs = append(errs, field.NotSupported(at.Child("source"), c.Source,
				[]resourcev1.AllocationConfigSource{resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass}))
		}
		errs = append(errs, set(c.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), itself, ref)...)
		return append(errs, configuration(&c.DeviceConfiguration, at)...)
	})...)
	if a.NodeSelector != nil {
		errs = append(errs, podspec.ValidateNodeSelector(a.NodeSelector, at.Child("nodeSelector"))...)
	}
	return errs
}

func share(id string, at *field.Path) field.ErrorList {
	if err := uuid.Validate(id); err != nil {
		return field.ErrorList{field.Invalid(at, id, "error validating uid: "+err.Error())}
	}
	if len(id) != 36 || id != strings.ToLower(id) {
		return field.ErrorList{field.Invalid(at, id, "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters")}
	}
	return nil
}

func validateDeviceStatus(d *resourcev1.AllocatedDeviceStatus, at *field.Path) field.ErrorList {
	errs := driver(d.Driver, at.Child("driver"))
	errs = append(errs, pool(d.Pool, at.Child("pool"))...)
	errs = append(errs, label(d.Device, at.Child("device"))...)
	if d.ShareID != nil {
		errs = append(errs, share(*d.ShareID, at.Child("shareID"))...)
	}
	if n := len(d.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(at.Child("conditions"), n, resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, at.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, object(d.Data, resourcev1.AllocatedDeviceStatusDataMaxLength, at.Child("data"))...)
	}
	n := d.NetworkData
	if n == nil {
		return errs
	}
	at = at.Child("networkData")
	if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
		errs = append(errs, field.TooLong(at.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
	}
	if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
		errs = append(errs, field.TooLong(at.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
	}
	return append(errs, set(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, at.Child("ips"), itself,
		func(ip *string, at *field.Path) field.ErrorList { return validation.IsValidInterfaceAddress(at, *ip) })...)
}
