package policy

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite testdata")

// Every file of testdata is a world in YAML documents, then a line of equals
// signs, and what the kernel should hold in that world.
func TestRendering(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			const line = "\n==========\n"
			world, want, _ := strings.Cut(string(b), line)
			r := newRuleset()
			r.advance(readWorld(t, world))
			got := show(r, strings.HasPrefix(world, "# chains"))
			if *update {
				if err := os.WriteFile(f, []byte(world+line+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("it differs (rewrite with -update and review the difference); got:\n%s", got)
			}
		})
	}
}

func readWorld(t *testing.T, world string) News {
	n := emptyNews()
	n.Local = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}
	for i, doc := range strings.Split(world, "\n---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		var err error
		switch kind.Kind {
		case "Namespace":
			var o corev1.Namespace
			err = yaml.UnmarshalStrict([]byte(doc), &o)
			n.Namespaces[Name{Name: o.Name}] = namespaceOf(&o)
		case "Pod":
			var o corev1.Pod
			err = yaml.UnmarshalStrict([]byte(doc), &o)
			if p := podOf(&o, "n1"); p != nil {
				n.Pods[p.Name] = p
			}
		case "NetworkPolicy":
			var o networkingv1.NetworkPolicy
			if err = yaml.UnmarshalStrict([]byte(doc), &o); err == nil {
				n.Policies[Name{o.Namespace, o.Name}], err = policyOf(&o)
			}
		default:
			t.Fatalf("document %d is a %q", i, kind.Kind)
		}
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
	}
	return n
}

// show writes the content of a ruleset down, and its chains if asked.
func show(r *ruleset, chains bool) string {
	var lines []string
	for k, v := range r.content() {
		lines = append(lines, element{k.set, k.key, v}.describe())
	}
	for i, f := range families {
		for _, s := range r.spans[i] {
			lines = append(lines, fmt.Sprintf("%s %s-%s : %d", f.name("blocks"), s.lo, s.hi, s.identity.number))
		}
	}
	slices.Sort(lines)
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	if !chains {
		return b.String()
	}
	all, err := r.allChains()
	if err != nil {
		return err.Error()
	}
	for _, c := range all {
		fmt.Fprintf(&b, "\nchain %s\n", c.name)
		for _, l := range c.rules {
			var parts []string
			for _, e := range l.exprs {
				parts = append(parts, word(e))
			}
			fmt.Fprintf(&b, "  %s", strings.Join(parts, " "))
			if l.comment != "" {
				fmt.Fprintf(&b, "    # %s", l.comment)
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// word is one expression, short.
func word(e expr.Any) string {
	switch x := e.(type) {
	case *expr.Meta:
		name := map[expr.MetaKey]string{expr.MetaKeyPRIORITY: "note", expr.MetaKeyL4PROTO: "l4proto", expr.MetaKeyNFPROTO: "family"}[x.Key]
		if x.SourceRegister {
			return name + ":="
		}
		return name
	case *expr.Ct:
		return "ct-state"
	case *expr.Payload:
		return fmt.Sprintf("%s+%d:%d", map[expr.PayloadBase]string{expr.PayloadBaseNetworkHeader: "network", expr.PayloadBaseTransportHeader: "transport"}[x.Base], x.Offset, x.Len)
	case *expr.Immediate:
		return fmt.Sprintf("%x", x.Data)
	case *expr.Bitwise:
		return fmt.Sprintf("&%x^%x", x.Mask, x.Xor)
	case *expr.Cmp:
		return fmt.Sprintf("%s%x", map[expr.CmpOp]string{expr.CmpOpEq: "==", expr.CmpOpNeq: "!=", expr.CmpOpGte: ">=", expr.CmpOpLte: "<="}[x.Op], x.Data)
	case *expr.Lookup:
		if x.IsDestRegSet {
			return "get " + x.SetName
		}
		return "in " + x.SetName
	case *expr.Counter:
		return "counter"
	case *expr.Verdict:
		return strings.TrimSpace(map[expr.VerdictKind]string{expr.VerdictAccept: "accept", expr.VerdictDrop: "drop", expr.VerdictReturn: "return", expr.VerdictJump: "jump", expr.VerdictGoto: "goto"}[x.Kind] + " " + x.Chain)
	}
	return fmt.Sprintf("%T", e)
}
