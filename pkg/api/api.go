// Package api holds the one scheme with every k8s.io/api group, its codecs, and small facts about kinds that several
// daemons need. The types are served and stored as they are; there are no internal ones.
package api

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

// Scheme knows every type of k8s.io/api, in every version, and metav1. It is complete before main starts and never changed.
var Scheme *runtime.Scheme = scheme.Scheme

// Codecs make JSON, YAML and protobuf serializers for Scheme.
var Codecs serializer.CodecFactory = scheme.Codecs
