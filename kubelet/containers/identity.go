package containers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

// identityOf is who a process is.
type identityOf struct {
	uid, gid uint32
	groups   []uint32
}

// notNonRoot is why runAsNonRoot cannot be kept. It is an ErrRunsAsRoot, and a text of its own.
type notNonRoot struct{ text string }

func (e notNonRoot) Error() string        { return e.text }
func (e notNonRoot) Is(target error) bool { return target == ErrRunsAsRoot }

// whoRuns decides the process's user: the pod's wish over the image's, names and groups as the image's files say.
func whoRuns(image imageFacts, sec Security) (identityOf, error) {
	if err := nonRoot(image, sec); err != nil {
		return identityOf{}, err
	}
	wish := image.config.User
	if sec.RunAsUser != nil {
		wish = fmt.Sprint(*sec.RunAsUser)
	}
	passwd, group := strings.NewReader(string(image.passwd)), strings.NewReader(string(image.group))
	found, err := user.GetExecUser(wish, &user.ExecUser{}, passwd, group)
	if err != nil {
		return identityOf{}, fmt.Errorf("finding user %q in the image: %w", wish, err)
	}
	id := identityOf{uid: uint32(found.Uid), gid: uint32(found.Gid)}
	if sec.RunAsGroup != nil {
		id.gid = uint32(*sec.RunAsGroup)
	}
	id.groups = append(id.groups, id.gid)
	if !sec.StrictGroups {
		for _, g := range found.Sgids {
			id.groups = appendNew(id.groups, uint32(g))
		}
	}
	for _, g := range sec.SupplementalGroups {
		id.groups = appendNew(id.groups, uint32(g))
	}
	return id, nil
}

// mapped refuses users and groups that a sandbox with users of its own does not have.
func (id identityOf) mapped() error {
	if id.uid >= idsEach {
		return fmt.Errorf("user %d in a user namespace of %d: %w", id.uid, idsEach, ErrUnsupported)
	}
	for _, g := range append([]uint32{id.gid}, id.groups...) {
		if g >= idsEach {
			return fmt.Errorf("group %d in a user namespace of %d: %w", g, idsEach, ErrUnsupported)
		}
	}
	return nil
}

// nonRoot keeps runAsNonRoot. An image that names its user by a word could map that word to root, so it is refused unless the pod names a number.
func nonRoot(image imageFacts, sec Security) error {
	if !sec.RunAsNonRoot {
		return nil
	}
	if sec.RunAsUser != nil {
		if *sec.RunAsUser == 0 {
			return notNonRoot{"container's runAsUser breaks non-root policy"}
		}
		return nil
	}
	name, _, _ := strings.Cut(image.config.User, ":")
	if name == "" {
		return notNonRoot{"container has runAsNonRoot and image will run as root"}
	}
	uid, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return notNonRoot{fmt.Sprintf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name)}
	}
	if uid == 0 {
		return notNonRoot{"container has runAsNonRoot and image will run as root"}
	}
	return nil
}

// inPod adds to an ErrRunsAsRoot whose container it is, as users of Kubernetes read it; other errors stay as they are.
func inPod(err error, s Sandbox, container string) error {
	var refused notNonRoot
	if !errors.As(err, &refused) {
		return err
	}
	return notNonRoot{fmt.Sprintf("%s (pod: %q, container: %s)", refused.text, fmt.Sprintf("%s_%s(%s)", s.PodName, s.PodNamespace, s.PodUID), container)}
}

func appendNew(list []uint32, v uint32) []uint32 {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// text is how a label keeps an identity: uid:gid:group,group.
func (id identityOf) text() string {
	groups := make([]string, len(id.groups))
	for i, g := range id.groups {
		groups[i] = strconv.FormatUint(uint64(g), 10)
	}
	return fmt.Sprintf("%d:%d:%s", id.uid, id.gid, strings.Join(groups, ","))
}

// identityFrom is the other way of text; nil for a label that is missing or spoiled.
func identityFrom(text string) *Identity {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return nil
	}
	var id Identity
	var err [2]error
	id.UID, err[0] = small(parts[0])
	id.GID, err[1] = small(parts[1])
	if errors.Join(err[:]...) != nil {
		return nil
	}
	for g := range strings.SplitSeq(parts[2], ",") {
		n, err := small(g)
		if err != nil {
			return nil
		}
		id.Groups = append(id.Groups, n)
	}
	return &id
}

func small(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
