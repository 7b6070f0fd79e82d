package main

import (
	"fmt"
	"slices"
	"strings"

	"pilothouse.dev/controller-manager/attachdetach"
	"pilothouse.dev/controller-manager/bootstraptokens"
	"pilothouse.dev/controller-manager/clusterrole"
	"pilothouse.dev/controller-manager/cronjob"
	"pilothouse.dev/controller-manager/csrapprove"
	"pilothouse.dev/controller-manager/csrclean"
	"pilothouse.dev/controller-manager/csrsign"
	"pilothouse.dev/controller-manager/daemonset"
	"pilothouse.dev/controller-manager/deployment"
	"pilothouse.dev/controller-manager/disruption"
	"pilothouse.dev/controller-manager/endpoints"
	"pilothouse.dev/controller-manager/endpointslice"
	"pilothouse.dev/controller-manager/endpointslicemirror"
	"pilothouse.dev/controller-manager/ephemeralvolume"
	"pilothouse.dev/controller-manager/garbagecollector"
	"pilothouse.dev/controller-manager/hpa"
	"pilothouse.dev/controller-manager/job"
	"pilothouse.dev/controller-manager/leasegc"
	"pilothouse.dev/controller-manager/loadbalancer"
	"pilothouse.dev/controller-manager/localpath"
	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/namespace"
	"pilothouse.dev/controller-manager/nodeipam"
	"pilothouse.dev/controller-manager/nodelifecycle"
	"pilothouse.dev/controller-manager/podgc"
	"pilothouse.dev/controller-manager/pvbinder"
	"pilothouse.dev/controller-manager/pvexpander"
	"pilothouse.dev/controller-manager/pvprotection"
	"pilothouse.dev/controller-manager/replicaset"
	"pilothouse.dev/controller-manager/resourceclaim"
	"pilothouse.dev/controller-manager/resourcequota"
	"pilothouse.dev/controller-manager/rootca"
	"pilothouse.dev/controller-manager/serviceaccount"
	"pilothouse.dev/controller-manager/servicecidr"
	"pilothouse.dev/controller-manager/statefulset"
	"pilothouse.dev/controller-manager/storageversionmigration"
	"pilothouse.dev/controller-manager/tainteviction"
	"pilothouse.dev/controller-manager/ttlafterfinished"
)

// controllers is the table: name, service account in kube-system, constructor, workers. Adding a controller is a package and a
// line here; what its account may do stands in apiserver/bootstrap/policy/controllers.txt.
func controllers(cfg Config) []loop.Line {
	return []loop.Line{
		{Name: "deployment", Account: "deployment-controller", New: deployment.New, Workers: cfg.DeploymentSyncs},
		{Name: "replicaset", Account: "replicaset-controller", New: replicaset.New, Workers: cfg.ReplicaSetSyncs},
		{Name: "statefulset", Account: "statefulset-controller", New: statefulset.New, Workers: cfg.StatefulSetSyncs},
		{Name: "replicationcontroller", Events: "replication-controller", Account: "replication-controller", New: replicaset.Older, Workers: cfg.ReplicationControllerSyncs},
		{Name: "daemonset", Account: "daemon-set-controller", New: daemonset.New, Workers: cfg.DaemonSetSyncs},
		{Name: "cronjob", Account: "cronjob-controller", New: cronjob.New, Workers: cfg.CronJobSyncs},
		{Name: "job", Account: "job-controller", New: job.New, Workers: cfg.JobSyncs},
		{Name: "ttlafterfinished", Account: "ttl-after-finished-controller", New: ttlafterfinished.New, Workers: cfg.TTLAfterFinishedSyncs},
		{Name: "disruption", Events: "controllermanager", Account: "disruption-controller", New: disruption.New, Workers: 5},
		{Name: "stalepoddisruption", Account: "disruption-controller", New: disruption.Stale, Workers: 1},
		{Name: "endpointslice", Events: "endpoint-slice-controller", Account: "endpointslice-controller", New: endpointslice.New(cfg.EndpointSlice), Workers: cfg.EndpointSyncs},
		{Name: "endpointslicemirroring", Events: "endpoint-slice-mirroring-controller", Account: "endpointslicemirroring-controller", New: endpointslicemirror.New(cfg.MirroredPerSubset), Workers: cfg.MirrorSyncs},
		{Name: "endpoints", Events: "endpoint-controller", Account: "endpoint-controller", New: endpoints.New(cfg.EndpointsBatch), Workers: cfg.EndpointSyncs},
		{Name: "service-lb", Events: "service-controller", Account: "service-controller", New: loadbalancer.New(cfg.LoadBalancers), Workers: 1, Off: len(cfg.LoadBalancers) == 0}, // one: see its doc
		{Name: "servicecidr", Account: "service-cidrs-controller", New: servicecidr.New, Workers: 2},
		{Name: "nodeipam", Events: "cidrAllocator", Account: "node-controller", New: nodeipam.New(cfg.NodeIPAM), Workers: 1, Off: !cfg.AllocateNodeCIDRs}, // one: see its doc
		{Name: "nodelifecycle", Events: "node-controller", Account: "node-controller", New: nodelifecycle.New(cfg.NodeLifecycle), Workers: 8},
		{Name: "tainteviction", Events: "taint-eviction-controller", Account: "node-controller", New: tainteviction.New(cfg.EvictionToleration), Workers: 8},
		{Name: "leasegc", Account: "lease-garbage-collector", New: leasegc.New, Workers: 1},
		{Name: "podgc", Account: "pod-garbage-collector", New: podgc.New(cfg.TerminatedPods), Workers: 4},
		{Name: "namespace", Account: "namespace-controller", New: namespace.New, Workers: cfg.NamespaceSyncs},
		{Name: "garbagecollector", Account: "generic-garbage-collector", New: garbagecollector.New, Workers: cfg.GCSyncs},
		{Name: "serviceaccount", Account: "service-account-controller", New: serviceaccount.New, Workers: 1},
		// As the controller manager itself: its account's own token may be one of these.
		{Name: "serviceaccounttoken", New: serviceaccount.Tokens(cfg.ServiceAccountSigner, cfg.RootCAFile), Workers: cfg.ServiceAccountTokenSyncs, Off: cfg.ServiceAccountSigner == nil},
		{Name: "persistentvolume-binder", Events: "persistentvolume-controller", Account: "persistent-volume-binder", New: pvbinder.New, Workers: 4},
		{Name: "persistentvolume-expander", Events: "volume_expand", Account: "expand-controller", New: pvexpander.New, Workers: 2},
		{Name: "ephemeral-volume", Events: "ephemeral_volume", Account: "ephemeral-volume-controller", New: ephemeralvolume.New, Workers: cfg.EphemeralVolumeSyncs},
		{Name: "legacyserviceaccounttokencleaner", Account: "legacy-service-account-token-cleaner", New: serviceaccount.LegacyTokens(cfg.LegacyTokenPeriod), Workers: 1},
		{Name: "pvcprotection", Account: "pvc-protection-controller", New: pvprotection.Claims, Workers: 2},
		{Name: "pvprotection", Account: "pv-protection-controller", New: pvprotection.Volumes, Workers: 2},
		{Name: "localpathprovisioner", Events: "pilothouse.dev/local-path", Account: "local-path-provisioner", New: localpath.New(cfg.LocalPathDir), Workers: 4},
		{Name: "attachdetach", Events: "attachdetach-controller", Account: "attachdetach-controller", New: attachdetach.New(cfg.PatientDetach), Workers: 4},
		{Name: "rootca", Account: "root-ca-cert-publisher", New: rootca.New(cfg.RootCAFile), Workers: 1, Off: cfg.RootCAFile == ""},
		{Name: "resourcequota", Account: "resourcequota-controller", New: resourcequota.New(cfg.QuotaPeriod), Workers: cfg.QuotaSyncs},
		{Name: "horizontalpodautoscaling", Events: "horizontal-pod-autoscaler", Account: "horizontal-pod-autoscaler", New: hpa.New(cfg.HPA), Workers: cfg.HPASyncs},
		{Name: "resourceclaim", Events: "resource_claim", Account: "resource-claim-controller", New: resourceclaim.New, Workers: 10},
		{Name: "storageversionmigrator", Account: "storage-version-migrator-controller", New: storageversionmigration.New, Workers: 5},
		{Name: "clusterrole", Account: "clusterrole-aggregation-controller", New: clusterrole.New, Workers: 5},
		{Name: "csrapproving", Account: "certificate-controller", New: csrapprove.New(cfg.Approval), Workers: 5},
		{Name: "csrsigning", Account: "certificate-controller", New: csrsign.New(cfg.Signing), Workers: 5, Off: !cfg.Signing.Any()},
		{Name: "csrcleaner", Account: "certificate-controller", New: csrclean.Requests, Workers: 1},
		{Name: "podcertificaterequestcleaner", Account: "podcertificaterequestcleaner", New: csrclean.PodRequests, Workers: 1},
		{Name: "bootstrapsigner", Account: "bootstrap-signer", New: bootstraptokens.Signer, Workers: 1},
		{Name: "tokencleaner", Account: "token-cleaner", New: bootstraptokens.Cleaner, Workers: 1},
	}
}

// enabled picks lines by the names of --controllers: NAME turns one on, -NAME off, * all that are not named.
func enabled(table []loop.Line, names []string) ([]loop.Line, error) {
	known := map[string]bool{}
	for _, l := range table {
		known[l.Name] = true
	}
	for _, n := range names {
		if n = strings.TrimPrefix(n, "-"); n != "*" && !known[n] {
			return nil, fmt.Errorf("--controllers: there is no controller %q", n)
		}
	}
	var on []loop.Line
	for _, l := range table {
		if l.Off {
			continue
		}
		if slices.Contains(names, l.Name) || slices.Contains(names, "*") && !slices.Contains(names, "-"+l.Name) {
			on = append(on, l)
		}
	}
	return on, nil
}
