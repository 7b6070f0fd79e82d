package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// object is something that every cluster contains: made when it is not there, and left alone when it is. They are sent as they are,
// without a client for each of their groups, which would be a good part of the program.
type object struct {
	path string // of the kind
	obj  metav1.Object
}

const (
	priorityClasses = "/apis/scheduling.k8s.io/v1/priorityclasses"
	serviceCIDRs    = "/apis/networking.k8s.io/v1/servicecidrs"
	flowSchemas     = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
	levels          = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations"
)

// objects are all of them, in the order in which they are made.
func (c Config) objects() []object {
	all := []object{
		{priorityClasses, priorityClass("system-node-critical", 2000001000, "For pods of the system without which their node does not work.")},
		{priorityClasses, priorityClass("system-cluster-critical", 2000000000, "For pods of the system without which the cluster does not work; any node will do.")},
	}
	if len(c.ServiceCIDRs) > 0 {
		all = append(all, object{serviceCIDRs, &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: serviceName}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: c.ServiceCIDRs},
		}})
	}
	return all
}

func priorityClass(name string, value int32, description string) *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description}
}

// contents makes what is missing of the objects.
func (b *Bootstrap) contents(ctx context.Context) error {
	for _, o := range b.objects {
		if err := b.make(ctx, o); err != nil {
			return fmt.Errorf("making %s/%s: %w", o.path, o.obj.GetName(), err)
		}
	}
	if len(b.cfg.ServiceCIDRs) > 0 {
		if err := b.readyCIDR(ctx); err != nil {
			return fmt.Errorf("telling that the service addresses are ready: %w", err)
		}
	}
	return nil
}

// make asks from the cache, which is next to nothing when all is there.
func (b *Bootstrap) make(ctx context.Context, o object) error {
	err := b.raw.Get().AbsPath(o.path, o.obj.GetName()).Param("resourceVersion", "0").Do(ctx).Error()
	if !apierrors.IsNotFound(err) {
		return err
	}
	body, err := json.Marshal(o.obj)
	if err != nil {
		return err
	}
	err = b.raw.Post().AbsPath(o.path).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// readyCIDR says of the cluster's own range that services get addresses from it: we give them.
func (b *Bootstrap) readyCIDR(ctx context.Context) error {
	text, err := b.raw.Get().AbsPath(serviceCIDRs, serviceName).Do(ctx).Raw()
	if err != nil {
		return err
	}
	have := &networkingv1.ServiceCIDR{}
	if err := json.Unmarshal(text, have); err != nil {
		return err
	}
	// A cluster that got a second family since: services get its addresses too. No other change of ranges is ours to make.
	if want := b.cfg.ServiceCIDRs; len(want) == 2 && slices.Equal(have.Spec.CIDRs, want[:1]) {
		have.Spec.CIDRs = want
		if text, err = json.Marshal(have); err != nil {
			return err
		}
		return b.raw.Put().AbsPath(serviceCIDRs, serviceName).SetHeader("Content-Type", "application/json").Body(text).Do(ctx).Error()
	}
	for _, c := range have.Status.Conditions {
		if c.Type == networkingv1.ServiceCIDRConditionReady {
			return nil
		}
	}
	have.Status.Conditions = append(have.Status.Conditions, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "KubernetesDefault", Message: "Kubernetes default Service CIDR is ready",
	})
	if text, err = json.Marshal(have); err != nil {
		return err
	}
	return b.raw.Put().AbsPath(serviceCIDRs, serviceName, "status").SetHeader("Content-Type", "application/json").Body(text).Do(ctx).Error()
}
