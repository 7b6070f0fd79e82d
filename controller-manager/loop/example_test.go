package loop_test

import (
	"context"
	"fmt"
	"time"

	"pilothouse.dev/controller-manager/loop"
)

// A controller is data and one function; what wakes it can be read.
func ExampleController() {
	c := loop.Controller{
		Watches: []loop.Watch{
			{Resource: "deployments.apps", Wakes: loop.Self},
			{Resource: "replicasets.apps", Wakes: loop.Owner("Deployment")},
		},
		Reconcile: func(_ context.Context, key loop.Key) (again time.Duration, err error) {
			fmt.Println("bringing", key, "to what it should be")
			return 0, nil
		},
	}
	for _, w := range c.Watches {
		fmt.Println(w.Resource, "wakes", w.Wakes)
	}
	if _, err := c.Reconcile(context.Background(), loop.Key{Namespace: "default", Name: "web"}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// deployments.apps wakes itself
	// replicasets.apps wakes owner Deployment
	// bringing default/web to what it should be
}
