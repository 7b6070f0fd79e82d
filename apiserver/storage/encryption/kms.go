package encryption

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/uuid"
	kmsapi "k8s.io/kms/apis/v2"
)

// kms seals with keys that a plugin keeps, by version 2 of its protocol (https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/).
// The plugin seals a random seed; each value is sealed here, by AES-GCM with a key derived from the seed and the value's own random
// salt. So a write costs no call, and a read one call a seed.
type kms struct {
	plugin, endpoint string
	timeout          time.Duration
	mark             []byte
	now              func() time.Time

	dial sync.Once
	conn *grpc.ClientConn // set by dial, as the next two
	api  kmsapi.KeyManagementServiceClient
	err  error

	renew sync.Mutex // held while the plugin is asked for a new state

	mu    sync.Mutex
	state kmsState          // guarded by mu
	seeds map[string][]byte // by sealed seed; guarded by mu
}

// kmsState is what values are sealed with now.
type kmsState struct {
	seed   []byte // nil: none yet
	sealed sealedSeed
	until  time.Time // it may be used for writes so long after the plugin was last well
}

// sealedSeed is what the plugin makes of a seed.
type sealedSeed struct {
	keyID       string
	ciphertext  []byte
	annotations map[string][]byte
}

const (
	seedSize  = 32
	saltSize  = 32
	maxSeeds  = 1000            // opened ones that are kept; each is one restart of a server or one key of the plugin
	stateLife = 3 * time.Minute // of the last answer of a plugin that is away
	maxKeyID  = 1 << 10         // bounds of what a plugin may answer, as its protocol says
	maxNotes  = 32 << 10
)

func newKMS(name, endpoint string, timeout time.Duration) *kms {
	return &kms{
		plugin: name, endpoint: endpoint, timeout: timeout, mark: []byte(prefix + "kms:v2:" + name + ":"),
		now: time.Now, seeds: map[string][]byte{},
	}
}

func (k *kms) name() string             { return string(bytes.TrimSuffix(k.mark, []byte(":"))) }
func (k *kms) takes(stored []byte) bool { return bytes.HasPrefix(stored, k.mark) }

// client dials on first use; gRPC connects and reconnects by itself.
func (k *kms) client() (kmsapi.KeyManagementServiceClient, error) {
	k.dial.Do(func() {
		k.conn, k.err = grpc.NewClient(k.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
		if k.err == nil {
			k.api = kmsapi.NewKeyManagementServiceClient(k.conn)
		}
	})
	return k.api, k.err
}

// close ends the connection; nothing may be asked afterwards.
func (k *kms) close() error {
	k.dial.Do(func() { k.err = errors.New("closed") })
	if k.conn == nil {
		return nil
	}
	return k.conn.Close()
}

// check asks how the plugin is, and makes a new seed when its key is another one.
func (k *kms) check(ctx context.Context) error {
	k.renew.Lock()
	defer k.renew.Unlock()
	if err := k.refresh(ctx); err != nil {
		return fmt.Errorf("kms plugin %q: %w", k.plugin, err)
	}
	return nil
}

func (k *kms) refresh(ctx context.Context) error {
	api, err := k.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	status, err := api.Status(ctx, &kmsapi.StatusRequest{})
	switch {
	case err != nil:
		return fmt.Errorf("asking for its status: %w", err)
	case status.Version != "v2" && status.Version != "v2beta1":
		return fmt.Errorf("it speaks version %q, want v2", status.Version)
	case status.Healthz != "ok":
		return fmt.Errorf("it is not well: %s", status.Healthz)
	case status.KeyId == "" || len(status.KeyId) > maxKeyID:
		return fmt.Errorf("its status has a key id of %d bytes, want 1 to %d", len(status.KeyId), maxKeyID)
	}
	k.mu.Lock()
	have := k.state
	k.mu.Unlock()
	if have.seed == nil || have.sealed.keyID != status.KeyId {
		if have.seed, have.sealed, err = k.newSeed(ctx, api, status.KeyId); err != nil {
			return err
		}
	}
	have.until = k.now().Add(stateLife)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = have
	k.remember(have.sealed.ciphertext, have.seed)
	return nil
}

func (k *kms) newSeed(ctx context.Context, api kmsapi.KeyManagementServiceClient, keyID string) ([]byte, sealedSeed, error) {
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, sealedSeed{}, err
	}
	answer, err := api.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: string(uuid.NewUUID())})
	if err != nil {
		return nil, sealedSeed{}, fmt.Errorf("sealing a seed: %w", err)
	}
	notes := 0
	for key, value := range answer.Annotations {
		notes += len(key) + len(value)
	}
	switch {
	case answer.KeyId != keyID:
		return nil, sealedSeed{}, fmt.Errorf("it sealed with key %q while its status says %q", answer.KeyId, keyID)
	case len(answer.Ciphertext) == 0 || len(answer.Ciphertext) > maxKeyID:
		return nil, sealedSeed{}, fmt.Errorf("it sealed a seed into %d bytes, want 1 to %d", len(answer.Ciphertext), maxKeyID)
	case notes > maxNotes:
		return nil, sealedSeed{}, fmt.Errorf("its annotations have %d bytes, want at most %d", notes, maxNotes)
	}
	return seed, sealedSeed{keyID, answer.Ciphertext, answer.Annotations}, nil
}

// remember keeps an opened seed; k.mu is held.
func (k *kms) remember(ciphertext, seed []byte) {
	if len(k.seeds) >= maxSeeds {
		clear(k.seeds)
	}
	k.seeds[string(ciphertext)] = seed
}

// current is the state to seal with. A plugin that was never reached is asked here, so that starting waits for none.
func (k *kms) current(ctx context.Context) (kmsState, error) {
	k.mu.Lock()
	s := k.state
	k.mu.Unlock()
	if s.seed != nil && k.now().Before(s.until) {
		return s, nil
	}
	if err := k.check(ctx); err != nil {
		return s, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, nil
}

func (k *kms) seal(ctx context.Context, path, value []byte) ([]byte, error) {
	s, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	c, err := derived(s.seed, salt)
	if err != nil {
		return nil, err
	}
	body, err := c.seal(salt, path, value)
	if err != nil {
		return nil, err
	}
	return appendEnvelope(bytes.Clone(k.mark), envelope{body: body, seed: s.sealed}), nil
}

func (k *kms) open(ctx context.Context, path, stored []byte) ([]byte, bool, error) {
	e, err := parseEnvelope(stored[len(k.mark):])
	if err != nil || len(e.body) < saltSize {
		return nil, false, errors.Join(errOpen, err)
	}
	seed, old, err := k.seedOf(ctx, e.seed)
	if err != nil {
		return nil, false, err
	}
	c, err := derived(seed, e.body[:saltSize])
	if err != nil {
		return nil, false, err
	}
	value, err := c.open(path, e.body[saltSize:])
	return value, old, err
}

// seedOf opens a seed, with the plugin's help when it is not known; old says that another key of the plugin seals now.
func (k *kms) seedOf(ctx context.Context, s sealedSeed) (seed []byte, old bool, err error) {
	k.mu.Lock()
	seed = k.seeds[string(s.ciphertext)]
	old = k.state.seed != nil && k.state.sealed.keyID != s.keyID
	k.mu.Unlock()
	if seed != nil {
		return seed, old, nil
	}
	api, err := k.client()
	if err != nil {
		return nil, false, fmt.Errorf("kms plugin %q: %w", k.plugin, err)
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	answer, err := api.Decrypt(ctx, &kmsapi.DecryptRequest{
		Ciphertext: s.ciphertext, KeyId: s.keyID, Annotations: s.annotations, Uid: string(uuid.NewUUID()),
	})
	if err != nil {
		return nil, false, fmt.Errorf("kms plugin %q: opening a seed: %w", k.plugin, err)
	}
	if len(answer.Plaintext) != seedSize {
		return nil, false, fmt.Errorf("kms plugin %q: it opened a seed into %d bytes, want %d", k.plugin, len(answer.Plaintext), seedSize)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(s.ciphertext, answer.Plaintext)
	return answer.Plaintext, old, nil
}

// derived is the cipher of one value (HKDF-Expand, RFC 5869 section 2.3).
func derived(seed, salt []byte) (cipher, error) {
	key, err := hkdf.Expand(sha256.New, seed, string(salt), 32)
	if err != nil {
		return nil, err
	}
	return newGCM(key)
}
