package queue

import stdheap "container/heap"

// heap is items in an order; each knows its index, so any can be taken out.
type heap struct {
	items  []*Item
	before func(a, b *Item) bool
}

// moreUrgent orders active items: by priority, then by age.
func moreUrgent(a, b *Item) bool {
	if a.Pod.Priority != b.Pod.Priority {
		return a.Pod.Priority > b.Pod.Priority
	}
	return a.age < b.age
}

// dueEarlier orders items that back off.
func dueEarlier(a, b *Item) bool {
	if !a.due.Equal(b.due) {
		return a.due.Before(b.due)
	}
	return moreUrgent(a, b)
}

func (h *heap) len() int     { return len(h.items) }
func (h *heap) top() *Item   { return h.items[0] }
func (h *heap) push(i *Item) { stdheap.Push((*sorted)(h), i) }
func (h *heap) pop() *Item   { return stdheap.Pop((*sorted)(h)).(*Item) }
func (h *heap) remove(i int) { stdheap.Remove((*sorted)(h), i) }

// sorted is a heap as the standard library wants to see it.
type sorted heap

func (s *sorted) Len() int           { return len(s.items) }
func (s *sorted) Less(i, j int) bool { return s.before(s.items[i], s.items[j]) }
func (s *sorted) Swap(i, j int) {
	s.items[i], s.items[j] = s.items[j], s.items[i]
	s.items[i].index, s.items[j].index = i, j
}
func (s *sorted) Push(x any) {
	it := x.(*Item)
	it.index = len(s.items)
	s.items = append(s.items, it)
}
func (s *sorted) Pop() any {
	last := len(s.items) - 1
	it := s.items[last]
	s.items[last] = nil
	s.items = s.items[:last]
	return it
}
