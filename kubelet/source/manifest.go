package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"pilothouse.dev/pkg/pod"
)

// seenAnnotation says when a static pod was read first.
const seenAnnotation = "kubernetes.io/config.seen"

// errMore says that behind the first pod of a manifest more is written, which nobody reads.
var errMore = errors.New("only the first document of a manifest is read")

// manifest makes static pods of what a file or a server holds: JSON or YAML, a Pod or, where many may be, a PodList.
func manifest(data []byte, many bool) ([]*corev1.Pod, error) {
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	var first map[string]any
	if err := d.Decode(&first); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("there is nothing in it")
		}
		return nil, fmt.Errorf("decoding: %w", err)
	}
	var list corev1.PodList
	d2 := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	var err error
	if kind, _ := first["kind"].(string); many && kind == "PodList" {
		err = d2.Decode(&list)
	} else {
		list.Items = make([]corev1.Pod, 1)
		if err = d2.Decode(&list.Items[0]); err == nil && (list.Items[0].Kind != "Pod" || list.Items[0].APIVersion != "v1") {
			return nil, fmt.Errorf("%s %q is no v1 Pod", list.Items[0].APIVersion, list.Items[0].Kind)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	var out []*corev1.Pod
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	var more map[string]any
	if err := d.Decode(&more); err == nil && len(more) > 0 {
		return out, errMore
	}
	return out, nil
}

// static makes of a pod that a manifest describes one of this node: named after it, with a UID that follows from where it was found and what it is, so
// that a changed one is another pod; with the API's defaults, and checked. from is file or http, place the file's name or the address.
func static(p *corev1.Pod, node, from, place string) error {
	if p.UID == "" {
		content, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s", node, from, place, content))
		p.UID = types.UID(hex.EncodeToString(sum[:16]))
	}
	if p.Name == "" {
		return errors.New("metadata.name: Required value: name or generateName is required")
	}
	p.Name += "-" + strings.ToLower(node)
	if p.Namespace == "" {
		p.Namespace = corev1.NamespaceDefault
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[pod.AnnotationSource], p.Annotations[pod.AnnotationHash] = from, string(p.UID)
	p.Annotations[seenAnnotation] = time.Now().UTC().Format(time.RFC3339Nano)
	delete(p.Annotations, pod.AnnotationMirror)
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = nil, nil // what somebody copied from the API may have been ending
	p.Spec.NodeName = node
	p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	p.Status = corev1.PodStatus{Phase: corev1.PodPending}
	defaults(p)
	return validate(p).ToAggregate()
}
