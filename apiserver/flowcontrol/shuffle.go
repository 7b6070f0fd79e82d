package flowcontrol

// mostHand is the most queues that a flow may use: validation allows 60 bits of entropy, which is 15 cards of 15.
const mostHand = 16

// deal gives a flow its hand: as many different queues of n as hand has room for, by a hash. Two flows rarely have the same hand,
// so a flow that fills its queues leaves nearly every other flow a queue that it does not fill (shuffle sharding).
//
// The hash is read as a number whose digits are of base n, n-1, n-2, …: the k-th says which of the queues not dealt yet comes next.
func deal(hash uint64, n int, hand []int32) {
	var sorted [mostHand]int32
	for k := range hand {
		left := uint64(n - k)
		card := int32(hash % left)
		hash /= left
		// The card-th of those left: step over each dealt one that stands before it.
		at := 0
		for at < k && sorted[at] <= card {
			card++
			at++
		}
		copy(sorted[at+1:k+1], sorted[at:k])
		sorted[at] = card
		hand[k] = card
	}
}
