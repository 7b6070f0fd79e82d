package nfconn_test

import (
	"errors"
	"testing"

	nft "github.com/google/nftables"

	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/testnet"
)

func addTable(name string) func(*nft.Conn) error {
	return func(c *nft.Conn) error {
		c.AddTable(&nft.Table{Name: name, Family: nft.TableFamilyIPv4})
		return nil
	}
}

func tables(t *testing.T, c *nfconn.Conn) (names []string) {
	t.Helper()
	err := c.Read(func(conn *nft.Conn) error {
		all, err := conn.ListTables()
		for _, x := range all {
			names = append(names, x.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestStrangersAreTheOthers(t *testing.T) {
	n := testnet.New(t, 0)
	ours, other := nfconn.New(int(n.Node.NS)), nfconn.New(int(n.Node.NS))
	t.Cleanup(ours.Close)
	t.Cleanup(other.Close)
	seen := func() uint64 {
		t.Helper()
		s, err := ours.Strangers()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	start := seen()
	for _, name := range []string{"a", "b"} {
		if err := ours.Write(addTable(name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := seen(); got != start {
		t.Errorf("own transactions count as %d strangers", got-start)
	}
	if err := other.Write(addTable("c")); err != nil {
		t.Fatal(err)
	}
	if err := ours.Write(addTable("d")); err != nil {
		t.Fatal(err)
	}
	if got := seen(); got != start+1 {
		t.Errorf("a stranger before an own transaction counts as %d", got-start)
	}
	ours.Close()
	if got := seen(); got != start+1 {
		t.Errorf("after opening again: %d", got-start)
	}
}

func TestAllOrNothing(t *testing.T) {
	n := testnet.New(t, 0)
	c := nfconn.New(int(n.Node.NS))
	t.Cleanup(c.Close)
	givenUp := errors.New("given up")
	err := c.Write(func(conn *nft.Conn) error {
		if err := addTable("half")(conn); err != nil {
			return err
		}
		return givenUp
	})
	if !errors.Is(err, givenUp) {
		t.Errorf("got %v", err)
	}
	err = c.Write(func(conn *nft.Conn) error {
		conn.DelTable(&nft.Table{Name: "nowhere", Family: nft.TableFamilyIPv4})
		return addTable("refused")(conn)
	})
	if err == nil {
		t.Error("deleting what is not there succeeded")
	}
	if err := c.Write(addTable("whole")); err != nil {
		t.Fatal(err)
	}
	if got := tables(t, c); len(got) != 1 || got[0] != "whole" {
		t.Errorf("there are %v", got)
	}
}
