package announce

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

var testMAC = net.HardwareAddr{0x02, 0x70, 1, 2, 3, 4}

func TestFramesOnTheWire(t *testing.T) {
	four, six, from := netip.MustParseAddr("198.18.0.225"), netip.MustParseAddr("fd00::1:2:3"), netip.MustParseAddr("fe80::9")
	const arpHead = "ffffffffffff" + "027001020304" + "0806" + "0001" + "0800" + "06" + "04"
	for _, c := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"gratuitous request", gratuitous(four, testMAC)[0], arpHead + "0001" + "027001020304" + "c61200e1" + "000000000000" + "c61200e1"},
		{"gratuitous reply", gratuitous(four, testMAC)[1], arpHead + "0002" + "027001020304" + "c61200e1" + "027001020304" + "c61200e1"},
		{"probe", probe(four, testMAC, netip.Addr{}), arpHead + "0001" + "027001020304" + "00000000" + "000000000000" + "c61200e1"},
		{"unsolicited advertisement", gratuitous(six, testMAC)[0],
			"333300000001" + "027001020304" + "86dd" + "60000000" + "0020" + "3a" + "ff" + "fd000000000000000000000100020003" + "ff020000000000000000000000000001" +
				"8800" + "561c" + "20000000" + "fd000000000000000000000100020003" + "0201" + "027001020304"},
		{"solicitation", probe(six, testMAC, from),
			"3333ff020003" + "027001020304" + "86dd" + "60000000" + "0020" + "3a" + "ff" + "fe800000000000000000000000000009" + "ff0200000000000000000001ff020003" +
				"8700" + "7793" + "00000000" + "fd000000000000000000000100020003" + "0101" + "027001020304"},
	} {
		if got := hex.EncodeToString(c.frame); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// A sum is right when the sum over it all, itself included, is zero.
func TestChecksum(t *testing.T) {
	for _, frame := range [][]byte{gratuitous(netip.MustParseAddr("fd00::1:2:3"), testMAC)[0], probe(netip.MustParseAddr("2001:db8::ffff:fffe"), testMAC, netip.MustParseAddr("fe80::9"))} {
		ip := frame[headerEther:]
		from, to := netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		if got := checksum(from, to, ip[headerIPv6:]); got != 0 {
			t.Errorf("sum over a whole message is %#x", got)
		}
	}
}

func TestAnswers(t *testing.T) {
	four, six := netip.MustParseAddr("198.18.0.225"), netip.MustParseAddr("fd00::1:2:3")
	for _, f := range append(gratuitous(four, testMAC), gratuitous(six, testMAC)...) {
		if a, mac, ok := answered(f); !ok || a != four && a != six || !bytes.Equal(mac, testMAC) {
			t.Errorf("%x: %v %v %v", f, a, mac, ok)
		}
		routed := bytes.Clone(f)
		if routed[12] == 0x86 {
			routed[headerEther+7] = 64
			if _, _, ok := answered(routed); ok {
				t.Error("an advertisement from afar is believed")
			}
		}
	}
	if a, _, ok := answered(probe(four, testMAC, netip.Addr{})); ok && a != netip.IPv4Unspecified() {
		t.Errorf("a question is an answer about %s", a)
	}
	if _, _, ok := answered(probe(six, testMAC, netip.MustParseAddr("fe80::9"))); ok {
		t.Error("a solicitation is an answer")
	}
}

func FuzzAnswered(f *testing.F) {
	for _, a := range []string{"198.18.0.225", "fd00::1"} {
		for _, frame := range append(gratuitous(netip.MustParseAddr(a), testMAC), probe(netip.MustParseAddr(a), testMAC, netip.MustParseAddr("fe80::9"))) {
			f.Add(frame)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a, mac, ok := answered(frame); ok && (!a.IsValid() || len(mac) != 6) {
			t.Errorf("%x: %v %v", frame, a, mac)
		}
	})
}
