package node

import (
	"fmt"
	"slices"
	"testing"

	"pilothouse.dev/kubelet/images"
)

// A node's status has the largest images, each with a few of its names.
func TestTellImages(t *testing.T) {
	var list []images.Image
	for i := range 60 {
		list = append(list, images.Image{Size: int64(60 - i), Digests: []string{fmt.Sprint("d", i)}, Names: []string{"a", "b", "c", "d", "e"}})
	}
	for most, want := range map[int]int{0: 50, 3: 3, 100: 60, -1: 60} {
		told := tellImages(list, most)
		if len(told) != want || told[0].SizeBytes != 60 || !slices.Equal(told[0].Names, []string{"d0", "a", "b", "c", "d"}) {
			t.Errorf("of 60, %d at most: %d told, the first is %+v", most, len(told), told[0])
		}
	}
	if told := tellImages(nil, 0); told == nil || len(told) != 0 {
		t.Errorf("of none: %v", told)
	}
}
