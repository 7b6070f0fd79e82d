package nfconn

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Seq joins expressions and lists of them to those of one rule.
func Seq(parts ...any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		switch v := p.(type) {
		case []expr.Any:
			out = append(out, v...)
		case expr.Any:
			out = append(out, v)
		default:
			panic(fmt.Sprintf("nfconn: no expression is a %T", p))
		}
	}
	return out
}

// Verdict reads a verdict out of a map's element as the kernel gives it: what is to
// be done, and the chain for those that lead to one.
func Verdict(raw []byte) (kind expr.VerdictKind, chain string, err error) {
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return 0, "", err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			kind = expr.VerdictKind(int32(ad.Uint32()))
		case unix.NFTA_VERDICT_CHAIN:
			chain = ad.String()
		}
	}
	return kind, chain, ad.Err()
}

// Stamp is the user data of a rule: its comment for people, and a sum over its
// expressions, so that a rule edited by hand is noticed.
func Stamp(family nftables.TableFamily, comment string, exprs []expr.Any) ([]byte, error) {
	sum := fnv.New32a()
	for _, e := range exprs {
		b, err := expr.Marshal(byte(family), e)
		if err != nil {
			return nil, fmt.Errorf("encoding the rule %q: %w", comment, err)
		}
		_, _ = sum.Write(b) // a hash takes everything
	}
	return userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf("%s #%08x", comment, sum.Sum32())), nil
}
