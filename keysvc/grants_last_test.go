package keysvc_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

// TestGrantsSurviveRestart: those that are left, and no other, also after the store was
// compacted many times.
func TestGrantsSurviveRestart(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	id := newKey(t, c)
	grants := func() map[string]string {
		t.Helper()
		found := map[string]string{}
		for p := kms.NewListGrantsPaginator(c, &kms.ListGrantsInput{KeyId: &id}); p.HasMorePages(); {
			out, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range out.Grants {
				text, err := json.Marshal(g)
				if err != nil {
					t.Fatal(err)
				}
				found[*g.GrantId] = string(text)
			}
		}
		return found
	}
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), EncryptionContext: map[string]string{"n": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(uid int) error {
		_, err := sdkAs(srv, uint32(uid)).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: map[string]string{"n": "1"}})
		return err
	}
	var ended []string
	for round := range 12 { // each start and stop makes a table; more than 8 are merged
		uid := 6000 + round
		var ids, tokens []string
		for i := range 3 {
			w := including(to(localUser(uid), "Decrypt"), "n=1")
			w.KeyId, w.Name = &id, aws.String(fmt.Sprintf("g%d-%d", round, i))
			out, err := c.CreateGrant(t.Context(), &w)
			if err != nil {
				t.Fatal(err)
			}
			ids, tokens = append(ids, *out.GrantId), append(tokens, *out.GrantToken)
		}
		if _, err := c.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &id, GrantId: &ids[0]}); err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			for _, token := range tokens[1:] {
				if _, err := c.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: &token}); err != nil {
					t.Fatal(err)
				}
			}
			ended = append(ended, ids...)
		}
		ended = append(ended, ids[0])
		before := grants()
		srv.Stop()
		srv.Start()
		c = sdk(srv) // the other one's connections are dead
		after := grants()
		if len(before) != 2*((round+1)/2) || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Fatalf("round %d: %d grants before the restart, %d after", round, len(before), len(after))
		}
		for _, gone := range ended {
			if after[gone] != "" {
				t.Fatalf("round %d: a grant that was ended came back", round)
			}
		}
		for r := range round + 1 {
			switch err := decrypt(6000 + r); {
			case r%2 == 1 && err != nil:
				t.Errorf("round %d: the grant of round %d: %v", round, r, err)
			case r%2 == 0:
				refused(t, err, "AccessDeniedException")
			}
		}
		if round%2 == 1 { // tokens stay good
			_, err := c.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: &tokens[1], DryRun: aws.Bool(true)})
			refused(t, err, "DryRunOperationException")
		}
	}
}

// TestDestroyedKeyTakesItsGrants: none is left for anybody to retire.
func TestDestroyedKeyTakesItsGrants(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithSimulatedClock())
	c := sdk(srv)
	id, other := newKey(t, c), newKey(t, c)
	var tokens []*string
	for _, key := range []string{id, id, other} {
		w := to(localUser(5000), "Decrypt", "RetireGrant")
		w.KeyId, w.RetiringPrincipal = &key, aws.String(localUser(5001))
		out, err := c.CreateGrant(t.Context(), &w)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, out.GrantToken)
	}
	if err := srv.Service.AddGrants(id, 2500, func(int) grant.Grant { return grant.Grant{Retiring: grant.Principal{ARN: "x", ID: "AIDAX"}} }); err != nil {
		t.Fatal(err)
	}
	schedule(t, c, id)
	if _, err := srv.Client().Advance(t.Context(), 8*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	left := func() {
		t.Helper()
		out, err := c.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(localUser(5001))})
		if err != nil || len(out.Grants) != 1 || !strings.HasSuffix(*out.Grants[0].KeyId, other) {
			t.Errorf("left are %+v, %v", out, err)
		}
		if n, err := srv.Service.StoredGrants(); n != 1 || err != nil {
			t.Errorf("the store has %d grants, %v", n, err)
		}
		for i, token := range tokens {
			_, err := c.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: token, DryRun: aws.Bool(true)})
			refused(t, err, map[bool]string{true: "DryRunOperationException", false: "InvalidGrantTokenException"}[i == 2])
		}
	}
	left()
	srv.Stop()
	srv.Start()
	left()
}

// TestGrantLimit: a key has 50,000 grants, and not one more.
func TestGrantLimit(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	id := newKey(t, c)
	const limit = 50000
	made := time.Now()
	err := srv.Service.AddGrants(id, limit-1, func(i int) grant.Grant {
		operations, _ := grant.OperationsOf("Decrypt")
		return grant.Grant{Grantee: grant.Principal{ARN: "arn", ID: fmt.Sprint("AIDA", i)}, Operations: operations,
			Constraint: grant.NewConstraint(map[string]string{"aws:ebs:id": fmt.Sprint("vol-", i)}, nil), Issuer: home, CreatedAt: start}
	})
	if err != nil {
		t.Fatal(err)
	}
	create := func(name string) (*kms.CreateGrantOutput, error) {
		w := to(localUser(5000), "Decrypt")
		w.KeyId, w.Name = &id, &name
		return c.CreateGrant(t.Context(), &w)
	}
	last, err := create("last")
	if err != nil {
		t.Fatalf("grant %d: %v", limit, err)
	}
	_, err = create("one-more")
	says(t, err, "LimitExceededException", "The number of grants for key "+arnPrefix+"key/"+id+" has reached its limit of 50000.")
	if again, err := create("last"); err != nil || *again.GrantId != *last.GrantId {
		t.Errorf("a repetition at the limit: %v", err)
	}
	srv.Stop()
	began := time.Now()
	srv.Start()
	t.Logf("made in %v, loaded in %v", began.Sub(made), time.Since(began))
	_, err = create("one-more")
	refused(t, err, "LimitExceededException")
	if _, err := c.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &id, GrantId: last.GrantId}); err != nil {
		t.Fatal(err)
	}
	if _, err := create("one-more"); err != nil {
		t.Errorf("in the place of a revoked one: %v", err)
	}
}

// TestGrantInAudit: the log says which grant let a caller in, and has no token.
func TestGrantInAudit(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c, grantee := sdk(srv), sdkAs(srv, otherUID)
	id := newKey(t, c)
	w := including(to(localUser(otherUID), "GenerateDataKey", "RetireGrant"), "a=1")
	w.KeyId, w.Name = &id, aws.String("n")
	g, err := c.CreateGrant(t.Context(), &w)
	if err != nil {
		t.Fatal(err)
	}
	for _, context := range []string{"1", "2"} {
		_, err = grantee.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: "AES_256", EncryptionContext: map[string]string{"a": context}, GrantTokens: []string{*g.GrantToken}})
		if (err == nil) != (context == "1") {
			t.Error(err)
		}
	}
	if _, err := grantee.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: g.GrantToken}); err != nil {
		t.Fatal(err)
	}
	list := records(t, auditDir(srv))
	if len(list) != 5 {
		t.Fatalf("%d records", len(list))
	}
	made, used, denied, retired := list[1], list[2], list[3], list[4]
	if p := made.RequestParameters; made.EventName != "CreateGrant" || made.ReadOnly || p.Name != "n" || p.GranteePrincipal != localUser(otherUID) || len(p.Operations) != 2 ||
		p.Constraints == nil || p.Constraints.EncryptionContextSubset["a"] != "1" || made.ResponseElements.GrantID != *g.GrantId || made.AdditionalEventData.GrantID != "" {
		t.Errorf("CreateGrant: %+v %+v", made, p)
	}
	if used.AdditionalEventData.GrantID != *g.GrantId || used.ErrorCode != "" || used.AdditionalEventData.KeyMaterialID == "" {
		t.Errorf("GenerateDataKey: %+v", used)
	}
	if denied.AdditionalEventData.GrantID != "" || denied.ErrorCode != "AccessDeniedException" {
		t.Errorf("the denied call: %+v", denied)
	}
	if retired.EventName != "RetireGrant" || retired.AdditionalEventData.GrantID != *g.GrantId || len(retired.Resources) != 1 || !strings.HasSuffix(retired.Resources[0].ARN, id) {
		t.Errorf("RetireGrant: %+v", retired)
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), *g.GrantToken) {
		t.Error("the log has the token")
	}
}

// TestAuditNamesTheGrant that a call needed: to the caller, to the caller's role or to
// the account; none where a policy allows it anyhow.
func TestAuditNamesTheGrant(t *testing.T) {
	s := newStage(t, map[string]string{"stranger": identityPolicy(anything)})
	sessions, err := s.srv.Service.HireRole(home, "free", "", "one")
	if err != nil {
		t.Fatal(err)
	}
	s.clients["free/one"] = s.client(sessions[0])
	made := map[string]string{ // by whose call it is for
		sessions[0].ARN: *s.grant("root", to("arn:aws:iam::"+home+":role/free", "Encrypt")).GrantId,
		strangerARN:     *s.grant("root", to("arn:aws:iam::"+foreign+":root", "Encrypt")).GrantId,
		aliceARN:        *s.grant("root", to(aliceARN, "Encrypt")).GrantId,
		bobARN:          "",
	}
	s.grant("root", to(bobARN, "Encrypt"))
	s.put(statements(`{"Effect": "Allow", "Principal": {"AWS": "` + bobARN + `"}, "Action": ["kms:Encrypt", "kms:DescribeKey"], "Resource": "*"}`))
	s.check(allow("free/one", "Encrypt"), allow("stranger", "Encrypt"), allow("alice", "Encrypt"), allow("bob", "Encrypt"), allow("bob", "DescribeKey"))
	s.srv.Stop()
	recorded := map[string]string{}
	for _, r := range records(t, auditDir(s.srv)) {
		if r.EventName == "Encrypt" {
			recorded[r.UserIdentity.ARN] = r.AdditionalEventData.GrantID
		}
		if r.EventName == "DescribeKey" && r.AdditionalEventData != nil {
			t.Errorf("a call without a grant has %+v", r.AdditionalEventData)
		}
	}
	if !maps.Equal(recorded, made) {
		t.Errorf("recorded:\n%v\nnot\n%v", recorded, made)
	}
}

// TestGrantToService: a service is known by its name, as is a federated user.
func TestGrantToService(t *testing.T) {
	s := newStage(t, nil)
	frankARN := "arn:aws:sts::" + home + ":federated-user/frank"
	for name, p := range map[string]policy.Principal{
		"ec2":   {Type: policy.Service, ARN: "ec2.amazonaws.com"},
		"rds":   {Type: policy.Service, ARN: "rds.amazonaws.com"},
		"frank": {Type: policy.FederatedUser, ARN: frankARN, Account: home, UniqueID: home + ":frank"},
		"anon":  {},
	} {
		s.clients[name] = s.client(keysvc.Caller{Principal: p})
	}
	s.grant("root", to("ec2.amazonaws.com", "Encrypt"))
	s.check(allow("ec2", "Encrypt"), deny("ec2", "DescribeKey"), deny("rds", "Encrypt"), deny("frank", "Encrypt"), deny("anon", "Encrypt"))
	s.grant("root", to(frankARN, "Encrypt"))
	s.check(allow("frank", "Encrypt"), deny("rds", "Encrypt"), deny("anon", "Encrypt"))
}
