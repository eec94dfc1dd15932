package keysvc_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func enableRotation(t *testing.T, c *kms.Client, id string, days int32) {
	t.Helper()
	in := &kms.EnableKeyRotationInput{KeyId: &id}
	if days != 0 {
		in.RotationPeriodInDays = &days
	}
	if _, err := c.EnableKeyRotation(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// nextRotation checks the status of automatic rotation: days is 0 when it is
// off.
func nextRotation(t *testing.T, c *kms.Client, id string, days int32, next time.Time) {
	t.Helper()
	out, err := c.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &id})
	if err != nil {
		t.Fatal(err)
	}
	if *out.KeyId != arnPrefix+"key/"+id || out.OnDemandRotationStartDate != nil || out.KeyRotationEnabled != (days != 0) {
		t.Errorf("the status is %+v", *out)
	}
	if days == 0 {
		if out.NextRotationDate != nil || out.RotationPeriodInDays != nil {
			t.Errorf("without rotation: %+v", *out)
		}
		return
	}
	if *out.RotationPeriodInDays != days || !out.NextRotationDate.Equal(next) {
		t.Errorf("every %d days, next %s; not every %d days, next %s", *out.RotationPeriodInDays, out.NextRotationDate, days, next)
	}
}

// materialsOf lists all of a key's materials, and checks what holds of each list.
func materialsOf(t *testing.T, c *kms.Client, id string) (list []types.RotationsListEntry) {
	t.Helper()
	before := *describe(t, c, id).CurrentKeyMaterialId
	p := kms.NewListKeyRotationsPaginator(c, &kms.ListKeyRotationsInput{
		KeyId: &id, Limit: aws.Int32(2), IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
	for p.HasMorePages() {
		out, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, out.Rotations...)
	}
	seen := map[string]bool{}
	for i, m := range list {
		state := types.KeyMaterialStateNonCurrent
		if i == len(list)-1 {
			state = types.KeyMaterialStateCurrent
		}
		if *m.KeyId != id || m.KeyMaterialState != state || (m.RotationDate != nil) != (i > 0) || (m.RotationType != "") != (i > 0) ||
			len(*m.KeyMaterialId) != 64 || seen[*m.KeyMaterialId] || m.ImportState != "" || m.ExpirationModel != "" {
			t.Errorf("material %d of %d is %+v", i, len(list), m)
		}
		seen[*m.KeyMaterialId] = true
	}
	last, after := *list[len(list)-1].KeyMaterialId, *describe(t, c, id).CurrentKeyMaterialId
	if last != before && last != after { // it may be rotated just now
		t.Errorf("the current material is %s, not the last of the list", after)
	}
	return list
}

func TestRotationPeriod(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	c := sdk(srv)
	id := newKey(t, c)
	nextRotation(t, c, id, 0, start)
	for _, days := range []int32{0, 89, 2561} {
		_, err := c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &id, RotationPeriodInDays: &days})
		refused(t, err, "ValidationException")
	}
	_, err := c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &id, RotationPeriodInDays: aws.Int32(89)})
	says(t, err, "ValidationException", "1 validation error detected: Value '89' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value greater than or equal to 90")
	nextRotation(t, c, id, 0, start)

	enableRotation(t, c, id, 0)
	nextRotation(t, c, id, 365, start.Add(365*day))
	clock.Add(time.Hour)
	enableRotation(t, c, id, 0) // changes nothing
	enableRotation(t, c, id, 365)
	nextRotation(t, c, id, 365, start.Add(365*day))
	for _, days := range []int32{90, 2560} {
		enableRotation(t, c, id, days)
		nextRotation(t, c, id, days, clock.Now().Add(time.Duration(days)*day))
	}
	was := clock.Now()
	clock.Add(time.Hour)
	enableRotation(t, c, id, 0)
	nextRotation(t, c, id, 2560, was.Add(2560*day))
	srv.Stop()
	srv.Start()
	nextRotation(t, c, id, 2560, was.Add(2560*day))

	for range 2 {
		if _, err := c.DisableKeyRotation(t.Context(), &kms.DisableKeyRotationInput{KeyId: &id}); err != nil {
			t.Fatal(err)
		}
		nextRotation(t, c, id, 0, start)
	}
	enableRotation(t, c, id, 0)
	nextRotation(t, c, id, 365, clock.Now().Add(365*day))

	// A disabled key keeps its schedule, one that is pending deletion seems to
	// have none and gets it back.
	next := clock.Now().Add(365 * day)
	if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	nextRotation(t, c, id, 365, next)
	schedule(t, c, id)
	nextRotation(t, c, id, 0, start)
	if _, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	nextRotation(t, c, id, 365, next)
}

// TestOldMaterialDecryptsForEver: what was encrypted before a rotation stays
// readable, and ReEncrypt moves it to the current material.
func TestOldMaterialDecryptsForEver(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	id := newKey(t, c)
	ec := map[string]string{"k": "v"}
	type sealed struct {
		blob     []byte
		material string
	}
	var all []sealed
	for i := range 4 {
		current := *materialsOf(t, c, id)[i].KeyMaterialId
		enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), EncryptionContext: ec})
		if err != nil {
			t.Fatal(err)
		}
		gen, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256, EncryptionContext: ec})
		if err != nil || *gen.KeyMaterialId != current {
			t.Fatalf("a data key under %v, not %s: %v", gen, current, err)
		}
		all = append(all, sealed{enc.CiphertextBlob, current}, sealed{gen.CiphertextBlob, current})
		for _, b := range all {
			dec, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: b.blob, EncryptionContext: ec})
			if err != nil || *dec.KeyMaterialId != b.material {
				t.Fatalf("after %d rotations: %v, %v", i, dec, err)
			}
			re, err := c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: b.blob, SourceEncryptionContext: ec, DestinationKeyId: &id, DestinationEncryptionContext: ec})
			if err != nil || *re.SourceKeyMaterialId != b.material || *re.DestinationKeyMaterialId != current {
				t.Fatalf("after %d rotations: %v, %v", i, re, err)
			}
			dec, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: re.CiphertextBlob, EncryptionContext: ec})
			if err != nil || *dec.KeyMaterialId != current {
				t.Fatalf("re-encrypted after %d rotations: %v, %v", i, dec, err)
			}
		}
		out, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: aws.String(arnPrefix + "key/" + id)})
		if err != nil || *out.KeyId != arnPrefix+"key/"+id {
			t.Fatal(out, err)
		}
		if i%2 == 1 {
			srv.Stop()
			srv.Start()
		}
	}
}

func TestAutomaticRotation(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	c := sdk(srv)
	id := newKey(t, c)
	enableRotation(t, c, id, 90)
	rotations := func(want int) {
		t.Helper()
		if want > 0 {
			soon(t, "the rotation", func() bool { return len(materialsOf(t, c, id)) >= want+1 })
		}
		settle()
		list := materialsOf(t, c, id)
		if len(list) != want+1 {
			t.Fatalf("there are %d rotations, not %d", len(list)-1, want)
		}
		if m := list[want]; want > 0 && (m.RotationType != types.RotationTypeAutomatic || !m.RotationDate.Equal(clock.Now())) {
			t.Errorf("the rotation is %s of %s, not of %s", m.RotationType, m.RotationDate, clock.Now())
		}
	}
	clock.Add(90*day - time.Millisecond)
	rotations(0)
	clock.Add(time.Millisecond)
	rotations(1)
	nextRotation(t, c, id, 90, start.Add(180*day))
	clock.Set(start) // a clock that goes back rotates nothing
	settle()
	clock.Set(start.Add(180 * day))
	rotations(2)

	// A service that slept through several dates rotates once.
	srv.Stop()
	clock.Add(400 * day)
	srv.Start()
	rotations(3)
	nextRotation(t, c, id, 90, clock.Now().Add(90*day))

	// A disabled key is not rotated, and is as soon as it is enabled.
	if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	clock.Add(200 * day)
	settle()
	if n := len(materialsOf(t, c, id)); n != 4 {
		t.Errorf("a disabled key was rotated: %d", n)
	}
	if _, err := c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	rotations(4)
	nextRotation(t, c, id, 90, clock.Now().Add(90*day))
	// Neither is one that is pending deletion.
	if _, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	clock.Add(29 * day)
	settle()
	if n := len(materialsOf(t, c, id)); n != 5 {
		t.Errorf("a key pending deletion was rotated: %d", n)
	}
}

func TestOnDemandLimitAndConflict(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	c := sdk(srv)
	id := newKey(t, c)
	enableRotation(t, c, id, 90)
	next := start.Add(90 * day)
	rotate := func() error {
		_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
		return err
	}
	clock.Set(next.Add(-20*time.Minute + time.Millisecond))
	refused(t, rotate(), "ConflictException")
	clock.Set(next.Add(-20 * time.Minute))
	for i := range 25 {
		if err := rotate(); err != nil {
			t.Fatalf("rotation %d: %v", i+1, err)
		}
		if i == 12 {
			srv.Stop()
			srv.Start()
		}
	}
	says(t, rotate(), "LimitExceededException", "The on-demand rotations limit has been reached for the given keyId. "+
		"No more on-demand rotations can be performed for this key: "+arnPrefix+"key/"+id)
	list := materialsOf(t, c, id)
	if len(list) != 26 || list[25].RotationType != types.RotationTypeOnDemand || !list[25].RotationDate.Equal(clock.Now()) {
		t.Errorf("%d materials, the last one %+v", len(list), list[len(list)-1])
	}
	nextRotation(t, c, id, 90, next) // as it was
	clock.Set(next)
	soon(t, "the automatic rotation", func() bool { return len(materialsOf(t, c, id)) == 27 }) // not limited
}

func TestListKeyRotations(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	list := func(in kms.ListKeyRotationsInput) *kms.ListKeyRotationsOutput {
		t.Helper()
		in.KeyId = &id
		out, err := c.ListKeyRotations(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := list(kms.ListKeyRotationsInput{}); len(out.Rotations) != 0 || out.Truncated {
		t.Errorf("a new key: %+v", out)
	}
	if out := list(kms.ListKeyRotationsInput{IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}); len(out.Rotations) != 1 {
		t.Errorf("a new key's materials: %+v", out)
	}
	for range 3 {
		if _, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}); err != nil {
			t.Fatal(err)
		}
	}
	for _, include := range []types.IncludeKeyMaterial{"", types.IncludeKeyMaterialRotationsOnly} {
		if out := list(kms.ListKeyRotationsInput{IncludeKeyMaterial: include}); len(out.Rotations) != 3 || out.Rotations[0].RotationDate == nil {
			t.Errorf("rotations only: %+v", out)
		}
	}
	for limit, n := range map[int32]int{1: 1, 3: 3, 4: 3, 1000: 3} {
		if out := list(kms.ListKeyRotationsInput{Limit: &limit}); len(out.Rotations) != n || out.Truncated != (n < 3) || (out.NextMarker != nil) != out.Truncated {
			t.Errorf("limit %d: %+v", limit, out)
		}
	}
	for _, in := range []kms.ListKeyRotationsInput{{Limit: aws.Int32(0)}, {Limit: aws.Int32(1001)}, {IncludeKeyMaterial: "SOME"}} {
		in.KeyId = &id
		_, err := c.ListKeyRotations(t.Context(), &in)
		refused(t, err, "ValidationException")
	}
	_, err := c.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &id, Marker: aws.String("made up")})
	refused(t, err, "InvalidMarkerException")
}

// TestRotationUnderLoad encrypts and decrypts while the key is rotated.
func TestRotationUnderLoad(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				text := fmt.Sprint(i, " ", n)
				enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte(text)})
				if err != nil {
					t.Error(err)
					return
				}
				dec, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob})
				if err != nil || string(dec.Plaintext) != text {
					t.Errorf("%s: %v, %v", text, dec, err)
					return
				}
			}
		})
	}
	// At once, they are done one after the other or refused, never lost.
	var mu sync.Mutex
	made := 0
	var rotating sync.WaitGroup
	for range 10 {
		rotating.Go(func() {
			_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
			if err != nil {
				refused(t, err, "ConflictException")
				return
			}
			mu.Lock()
			made++
			mu.Unlock()
		})
	}
	rotating.Wait()
	close(done)
	wg.Wait()
	if n := len(materialsOf(t, c, id)); n != made+1 || made == 0 {
		t.Errorf("%d rotations are acknowledged, %d happened", made, n-1)
	}
}
