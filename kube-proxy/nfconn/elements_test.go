package nfconn_test

import (
	"encoding/binary"
	"errors"
	"testing"

	nft "github.com/google/nftables"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/testnet"
)

// twoMaps is a table with the maps a and b, from four bytes to four bytes.
func twoMaps(c *nft.Conn) (*nft.Table, []*nft.Set) {
	t := c.AddTable(&nft.Table{Name: "t", Family: nft.TableFamilyIPv4})
	var all []*nft.Set
	for _, name := range []string{"a", "b"} {
		all = append(all, &nft.Set{Table: t, Name: name, IsMap: true, KeyType: nft.TypeClassID, DataType: nft.TypeClassID, Size: 4096}) // of one size: one that grows while it is read is not read whole
	}
	return t, all
}

func word(i int) string { return string(binary.NativeEndian.AppendUint32(nil, uint32(i))) }

// held is what the maps hold.
func held(t *testing.T, c *nfconn.Conn) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	err := c.Read(func(conn *nft.Conn) error {
		for _, name := range []string{"a", "b"} {
			out[name] = map[string]string{}
			all, err := conn.GetSetElements(&nft.Set{Table: &nft.Table{Name: "t", Family: nft.TableFamilyIPv4}, Name: name, IsMap: true, KeyType: nft.TypeClassID, DataType: nft.TypeClassID, Size: 4096}) // of one size: one that grows while it is read is not read whole
			if err != nil {
				return err
			}
			for _, e := range all {
				out[name][string(e.Key)] = string(e.Val)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestElements(t *testing.T) {
	n := testnet.New(t, 0)
	ours, other := nfconn.New(int(n.Node.NS)), nfconn.New(int(n.Node.NS))
	t.Cleanup(ours.Close)
	t.Cleanup(other.Close)
	err := ours.Write(func(c *nft.Conn) error {
		_, sets := twoMaps(c)
		return errors.Join(c.AddSet(sets[0], nil), c.AddSet(sets[1], nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	strangers := func() uint64 {
		t.Helper()
		s, err := ours.Strangers()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	start := strangers()

	if err := ours.WriteElements(nfconn.NewElements(3)); err != nil {
		t.Errorf("nothing: %v", err)
	}
	const many = 1000 // of several messages
	e := nfconn.NewElements(3)
	for i := range many {
		e.To(unix.NFPROTO_IPV4, "t", "a", false)
		e.Add(word(i), "", word(i+1))
		if i == many/2 {
			e.To(unix.NFPROTO_IPV4, "t", "b", false)
			e.Add(word(7), "", word(8))
		}
	}
	if err := ours.WriteElements(e); err != nil {
		t.Fatal(err)
	}
	got := held(t, ours)
	if len(got["a"]) != many || got["a"][word(999)] != word(1000) || len(got["b"]) != 1 || got["b"][word(7)] != word(8) {
		t.Fatalf("there are %d and %v", len(got["a"]), got["b"])
	}
	if s := strangers(); s != start {
		t.Errorf("own transactions count as %d strangers", s-start)
	}

	// A stranger between two of ours: it is noticed, and ours is done all the same.
	if err := other.Write(addTable("theirs")); err != nil {
		t.Fatal(err)
	}
	e = nfconn.NewElements(3)
	e.To(unix.NFPROTO_IPV4, "t", "a", true)
	for i := 1; i < many; i++ {
		e.Add(word(i), "", "")
	}
	e.To(unix.NFPROTO_IPV4, "t", "b", true)
	e.Add(word(7), "", "")
	e.To(unix.NFPROTO_IPV4, "t", "b", false)
	e.Add(word(7), "", word(9))
	if err := ours.WriteElements(e); err != nil {
		t.Fatal(err)
	}
	if got := held(t, ours); len(got["a"]) != 1 || got["b"][word(7)] != word(9) {
		t.Errorf("there are %d and %v", len(got["a"]), got["b"])
	}
	if s := strangers(); s != start+1 {
		t.Errorf("a stranger before an own transaction counts as %d", s-start)
	}

	// One of several messages is refused: nothing is done, and the next goes.
	e = nfconn.NewElements(3)
	e.To(unix.NFPROTO_IPV4, "t", "a", false)
	e.Add(word(5), "", word(5))
	e.To(unix.NFPROTO_IPV4, "t", "nowhere", false)
	e.Add(word(5), "", word(5))
	e.To(unix.NFPROTO_IPV4, "t", "b", false)
	e.Add(word(5), "", word(5))
	if err := ours.WriteElements(e); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a set that is not there: %v", err)
	}
	if got := held(t, ours); len(got["a"]) != 1 || len(got["b"]) != 1 {
		t.Errorf("after a refusal there are %v", got)
	}
	e = nfconn.NewElements(3)
	e.To(unix.NFPROTO_IPV4, "t", "b", false)
	e.Add(word(5), "", word(5))
	if err := ours.WriteElements(e); err != nil {
		t.Error(err)
	}
	if s := strangers(); s != start+1 {
		t.Errorf("after a refusal: %d strangers", s-start)
	}
}
