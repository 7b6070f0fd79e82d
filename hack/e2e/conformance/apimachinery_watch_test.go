package conformance

import (
	"fmt"
	"math/rand/v2"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
)

// note makes a ConfigMap in the row's words.
func note(name, label string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: label}}}
}

// mutate sets the number in a ConfigMap and gives what the server made of it.
func (r *row) mutate(client typedcore.ConfigMapInterface, name, number string, also func(*corev1.ConfigMap)) *corev1.ConfigMap {
	r.Helper()
	var out *corev1.ConfigMap
	r.again("updating "+name, func() error {
		c, err := client.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c.Data = map[string]string{"mutation": number}
		if also != nil {
			also(c)
		}
		out, err = client.Update(r.ctx, c, metav1.UpdateOptions{})
		return err
	})
	return out
}

// numbered agrees to a ConfigMap with that number.
func numbered(name, number string) func(metav1.Object) bool {
	return func(o metav1.Object) bool {
		c, ok := o.(*corev1.ConfigMap)
		return ok && c.Name == name && c.Data["mutation"] == number
	}
}

// AM-074: a watch from the last version that an ended one has seen gives what happened since, and nothing twice.
func watchRestarted(r *row) {
	client := r.kube.CoreV1().ConfigMaps(r.namespace())
	label := r.unique()
	first := r.follow(client.Watch(r.ctx, labelled(label)))
	_, err := client.Create(r.ctx, note("one", label), metav1.CreateOptions{})
	r.must(err, "creating")
	r.mutate(client, "one", "1", nil)
	first.next(watch.Added, "one", named("one"))
	first.next(watch.Modified, "one", numbered("one", "1"))
	first.watch.Stop()
	r.mutate(client, "one", "2", nil)
	from := labelled(label)
	from.ResourceVersion = first.last
	second := r.follow(client.Watch(r.ctx, from))
	second.last = first.last
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	second.strict(watch.Modified, numbered("one", "2"))
	second.strict(watch.Deleted, numbered("one", "2"))
}

// AM-075: a watch from the version of the first update sees what came after it only.
func watchFromVersion(r *row) {
	client := r.kube.CoreV1().ConfigMaps(r.namespace())
	label := r.unique()
	_, err := client.Create(r.ctx, note("one", label), metav1.CreateOptions{})
	r.must(err, "creating")
	first := r.mutate(client, "one", "1", nil)
	r.mutate(client, "one", "2", nil)
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	from := labelled(label)
	from.ResourceVersion = first.ResourceVersion
	w := r.follow(client.Watch(r.ctx, from))
	w.last = first.ResourceVersion
	w.strict(watch.Modified, numbered("one", "2"))
	w.strict(watch.Deleted, numbered("one", "2"))
}

// AM-076: watchers of label A, of label B and of both see adding, changing and deleting of what they select.
func watchersBySelector(r *row) {
	client := r.kube.CoreV1().ConfigMaps(r.namespace())
	a, b := r.unique(), r.unique()
	both := metav1.ListOptions{LabelSelector: fmt.Sprintf("%s in (%s,%s)", rowLabel, a, b)}
	ofA := r.follow(client.Watch(r.ctx, labelled(a)))
	ofB := r.follow(client.Watch(r.ctx, labelled(b)))
	ofBoth := r.follow(client.Watch(r.ctx, both))

	_, err := client.Create(r.ctx, note("a", a), metav1.CreateOptions{})
	r.must(err, "creating a")
	r.mutate(client, "a", "1", nil)
	r.mutate(client, "a", "2", nil)
	r.must(client.Delete(r.ctx, "a", metav1.DeleteOptions{}), "deleting a")
	for _, w := range []*events{ofA, ofBoth} {
		w.strict(watch.Added, numbered("a", ""))
		w.strict(watch.Modified, numbered("a", "1"))
		w.strict(watch.Modified, numbered("a", "2"))
		w.strict(watch.Deleted, numbered("a", "2"))
	}
	_, err = client.Create(r.ctx, note("b", b), metav1.CreateOptions{})
	r.must(err, "creating b")
	r.must(client.Delete(r.ctx, "b", metav1.DeleteOptions{}), "deleting b")
	// That nothing of a comes here is said by the first event being of b.
	for _, w := range []*events{ofB, ofBoth} {
		w.strict(watch.Added, numbered("b", ""))
		w.strict(watch.Deleted, numbered("b", ""))
	}
	// And nothing of b came to the watcher of a: a mark after it is the next that it sees.
	_, err = client.Create(r.ctx, note("mark", a), metav1.CreateOptions{})
	r.must(err, "creating a mark")
	ofA.strict(watch.Added, numbered("mark", ""))
}

// AM-077: an object whose label is changed away is deleted for a watcher of the label, and added when the label comes back.
func watchLabelChanged(r *row) {
	client := r.kube.CoreV1().ConfigMaps(r.namespace())
	label := r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	_, err := client.Create(r.ctx, note("one", label), metav1.CreateOptions{})
	r.must(err, "creating")
	r.mutate(client, "one", "1", nil)
	r.mutate(client, "one", "1", func(c *corev1.ConfigMap) { c.Labels[rowLabel] = "away" })
	w.strict(watch.Added, numbered("one", ""))
	w.strict(watch.Modified, numbered("one", "1"))
	w.strict(watch.Deleted, numbered("one", "1"))
	r.mutate(client, "one", "2", nil) // not seen
	r.mutate(client, "one", "2", func(c *corev1.ConfigMap) { c.Labels[rowLabel] = label })
	r.mutate(client, "one", "3", nil)
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	w.strict(watch.Added, numbered("one", "2"))
	w.strict(watch.Modified, numbered("one", "3"))
	w.strict(watch.Deleted, numbered("one", "3"))
}

// AM-078: watchers that start at each version seen so far get the same events in the same order.
func watchersAgree(r *row) {
	const steps = 100
	client := r.kube.CoreV1().ConfigMaps(r.namespace())
	label := r.unique()
	empty, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing")
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := churn(r, client, label, steps); err != nil {
			r.Errorf("writing: %v", err)
		}
	})
	defer writer.Wait()

	from := labelled(label)
	from.ResourceVersion = empty.ResourceVersion
	leader := r.follow(client.Watch(r.ctx, from))
	random := rand.New(rand.NewPCG(7, 8))
	seen := []string{empty.ResourceVersion}
	var others []*events
	for range steps {
		leader.take()
		seen = append(seen, leader.last)
		// A watcher from here on, or from somewhere before.
		from.ResourceVersion = seen[random.IntN(len(seen))]
		w := r.follow(client.Watch(r.ctx, from))
		w.last = from.ResourceVersion
		others = append(others, w)
	}
	for i, w := range others {
		start := 0
		for seen[start] != w.last {
			start++
		}
		for at := start + 1; at < len(seen); at++ {
			if w.take(); w.last != seen[at] {
				r.Fatalf("watcher %d from %s: event %d is of version %s, the leader's was %s", i, seen[start], at-start, w.last, seen[at])
			}
		}
	}
}

// churn creates, updates and deletes ConfigMaps at random, in so many steps of one event each.
func churn(r *row, client typedcore.ConfigMapInterface, label string, steps int) error {
	var there []*corev1.ConfigMap
	random := rand.New(rand.NewPCG(1, 2))
	for i := range steps {
		switch at := random.IntN(len(there) + 1); {
		case at == len(there) || i%3 == 0:
			c, err := client.Create(r.ctx, note(fmt.Sprintf("note-%d", i), label), metav1.CreateOptions{})
			if err != nil {
				return err
			}
			there = append(there, c)
		case i%3 == 1:
			there[at].Data = map[string]string{"mutation": fmt.Sprint(i)}
			c, err := client.Update(r.ctx, there[at], metav1.UpdateOptions{})
			if err != nil {
				return err
			}
			there[at] = c
		default:
			if err := client.Delete(r.ctx, there[at].Name, metav1.DeleteOptions{}); err != nil {
				return err
			}
			there = append(there[:at], there[at+1:]...)
		}
	}
	return nil
}
