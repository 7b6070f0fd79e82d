package node

import rbacv1 "k8s.io/api/rbac/v1"

// common is what every kubelet may do to objects of whomever
// (https://kubernetes.io/docs/reference/access-authn-authz/node/#overview).
var common = []rbacv1.PolicyRule{
	may([]string{"authentication.k8s.io"}, []string{"tokenreviews"}, "create"), // who calls the kubelet
	may([]string{"authorization.k8s.io"}, []string{"subjectaccessreviews", "localsubjectaccessreviews"}, "create"),
	may([]string{""}, []string{"services"}, "get", "list", "watch"), // variables of containers
	may([]string{""}, []string{"endpoints"}, "get"),
	may([]string{"", "events.k8s.io"}, []string{"events"}, "create", "update", "patch"),
	may([]string{"certificates.k8s.io"}, []string{"certificatesigningrequests"}, "create", "get", "list", "watch"),
	may([]string{"certificates.k8s.io"}, []string{"clustertrustbundles"}, "get", "list", "watch"),
	may([]string{"storage.k8s.io"}, []string{"csidrivers"}, "get", "list", "watch"),
	may([]string{"node.k8s.io"}, []string{"runtimeclasses"}, "get", "list", "watch"),
}

func may(groups, resources []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: groups, Resources: resources, Verbs: verbs}
}
