package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"pilothouse.dev/apiserver/flowcontrol"
)

// Gate tells the objects of flow control as this server sees them: the same pointers as before while nothing has changed, nil while
// nothing is known.
type Gate interface {
	Told(ctx context.Context) (*flowcontrol.Schemas, *flowcontrol.Levels)
}

// Flows keeps the flow schemas and priority levels that every cluster has, and says in the status of each schema whether its
// level exists (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#maintenance-of-the-mandatory-and-suggested-configuration-objects).
// Run it once.
type Flows struct {
	gate Gate
	raw  rest.Interface
	log  *zap.Logger
	wait time.Duration
}

// NewFlows makes it; nothing is asked yet.
func NewFlows(self *rest.Config, gate Gate, log *zap.Logger) (*Flows, error) {
	core, err := corev1client.NewForConfig(self)
	if err != nil {
		return nil, fmt.Errorf("making the loopback client: %w", err)
	}
	return &Flows{gate, core.RESTClient(), log.Named("bootstrap"), 500 * time.Millisecond}, nil
}

// Run looks, until ctx ends, whether anything has changed, which costs nothing, and then puts right what is not as it should be.
func (f *Flows) Run(ctx context.Context) error {
	tick := time.NewTicker(f.wait)
	defer tick.Stop()
	var schemas *flowcontrol.Schemas
	var levels *flowcontrol.Levels
	for {
		if s, l := f.gate.Told(ctx); s != nil && (s != schemas || l != levels) {
			err := errors.Join(f.keep(ctx), f.tell(ctx, s, l))
			if err == nil {
				schemas, levels = s, l
			} else if ctx.Err() == nil && !apierrors.IsConflict(err) {
				f.log.Warn("the objects of flow control are not as they should be yet", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// keep makes, changes and deletes what has to be.
func (f *Flows) keep(ctx context.Context) error {
	var haveLevels struct {
		Items []*flowcontrolv1.PriorityLevelConfiguration
	}
	var haveSchemas struct{ Items []*flowcontrolv1.FlowSchema }
	if err := f.list(ctx, levels, &haveLevels); err != nil {
		return err
	}
	if err := f.list(ctx, flowSchemas, &haveSchemas); err != nil {
		return err
	}
	var failed []error
	for _, s := range planLevels(haveLevels.Items) {
		failed = append(failed, f.do(ctx, levels, s))
	}
	for _, s := range planSchemas(haveSchemas.Items) {
		failed = append(failed, f.do(ctx, flowSchemas, s))
	}
	return errors.Join(failed...)
}

func (f *Flows) list(ctx context.Context, path string, into any) error {
	text, err := f.raw.Get().AbsPath(path).SetHeader("Accept", "application/json").Param("resourceVersion", "0").Do(ctx).Raw()
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("listing %s: %w", path, err)
	}
	return nil
}

func (f *Flows) do(ctx context.Context, path string, s step) error {
	body, err := json.Marshal(s.obj)
	if err != nil {
		return err
	}
	call := f.raw.Verb(s.method).SetHeader("Content-Type", "application/json")
	switch s.method {
	case http.MethodPost:
		err = call.AbsPath(path).Body(body).Do(ctx).Error()
	case http.MethodPut:
		err = call.AbsPath(path, s.obj.GetName()).Body(body).Do(ctx).Error()
	case http.MethodDelete:
		uid, version := s.obj.GetUID(), s.obj.GetResourceVersion()
		body, err = json.Marshal(metav1.DeleteOptions{
			TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
			Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		})
		if err == nil {
			err = call.AbsPath(path, s.obj.GetName()).Body(body).Do(ctx).Error()
		}
	}
	if apierrors.IsAlreadyExists(err) || s.method == http.MethodDelete && apierrors.IsNotFound(err) {
		return nil // another server was first
	}
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", s.method, path, s.obj.GetName(), err)
	}
	return nil
}

// tell says in the status of schemas whether their priority levels exist.
func (f *Flows) tell(ctx context.Context, schemas *flowcontrol.Schemas, levels *flowcontrol.Levels) error {
	var failed []error
	for _, s := range schemas.InOrder {
		is, reason, message := dangles(s, levels)
		if s.Dangling == string(is) && s.Because == message {
			continue
		}
		body, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": s.UID},
			"status": flowcontrolv1.FlowSchemaStatus{Conditions: []flowcontrolv1.FlowSchemaCondition{{
				Type: flowcontrolv1.FlowSchemaConditionDangling, Status: is, Reason: reason, Message: message, LastTransitionTime: metav1.Now(),
			}}},
		})
		if err == nil {
			err = f.raw.Patch(types.StrategicMergePatchType).AbsPath(flowSchemas, s.Name, "status").Body(body).Do(ctx).Error()
		}
		if err != nil && !apierrors.IsNotFound(err) {
			failed = append(failed, fmt.Errorf("telling the state of flow schema %s: %w", s.Name, err))
		}
	}
	return errors.Join(failed...)
}
