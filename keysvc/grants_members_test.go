package keysvc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// pairsOf makes n pairs, each with a value of size characters.
func pairsOf(n, size int) map[string]string {
	p := map[string]string{}
	for i := range n {
		p[fmt.Sprint("key", i)] = strings.Repeat("ü", size)
	}
	return p
}

func TestCreateGrantMembers(t *testing.T) {
	s := newStage(t, nil)
	const operations = "Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, Sign, Verify, GetPublicKey, CreateGrant, " +
		"RetireGrant, DescribeKey, GenerateDataKeyPair, GenerateDataKeyPairWithoutPlaintext, GenerateMac, VerifyMac, DeriveSharedSecret"
	for what, c := range map[string]struct {
		change  func(*want)
		code    string // "" is fine
		message string
	}{
		"no key":                {func(w *want) { w.KeyId = aws.String("") }, "ValidationException", ""},
		"an alias":              {func(w *want) { w.KeyId = aws.String("alias/x") }, "InvalidArnException", "Invalid keyId 'alias/x'"},
		"an unknown key":        {func(w *want) { w.KeyId = aws.String(unknownID) }, "NotFoundException", "Key '" + arnPrefix + "key/" + unknownID + "' does not exist"},
		"no grantee":            {func(w *want) { w.GranteePrincipal = aws.String("") }, "ValidationException", ""},
		"257 characters":        {func(w *want) { w.GranteePrincipal = aws.String(strings.Repeat("a", 257)) }, "ValidationException", ""},
		"a star":                {func(w *want) { w.GranteePrincipal = aws.String("*") }, "ValidationException", "1 validation error detected: Value '*' at 'granteePrincipal' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\\w+=,.@:/-]+$"},
		"nobody":                {func(w *want) { w.GranteePrincipal = aws.String("nobody") }, "InvalidArnException", "ARN does not refer to a valid principal: nobody"},
		"an account number":     {func(w *want) { w.GranteePrincipal = aws.String(home) }, "InvalidArnException", "ARN does not refer to a valid principal: " + home},
		"a user who is not":     {func(w *want) { w.GranteePrincipal = aws.String(aliceARN + "2") }, "InvalidArnException", "ARN does not refer to a valid principal: " + aliceARN + "2"},
		"a group":               {func(w *want) { w.GranteePrincipal = aws.String("arn:aws:iam::" + home + ":group/g") }, "InvalidArnException", "ARN does not refer to a valid principal: arn:aws:iam::" + home + ":group/g"},
		"a unique id":           {func(w *want) { w.GranteePrincipal = aws.String("AIDAEXAMPLEEXAMPLE234") }, "InvalidArnException", "ARN does not refer to a valid principal: AIDAEXAMPLEEXAMPLE234"},
		"a user of the machine": {func(w *want) { w.GranteePrincipal = aws.String(localUser(5000)) }, "", ""},
		"a service":             {func(w *want) { w.GranteePrincipal = aws.String("ec2.amazonaws.com") }, "", ""},
		"an account":            {func(w *want) { w.GranteePrincipal = aws.String("arn:aws:iam::444455556666:root") }, "", ""},
		"nobody retires":        {func(w *want) { w.RetiringPrincipal = aws.String("nobody") }, "InvalidArnException", "ARN does not refer to a valid principal: nobody"},
		"an empty retiring one": {func(w *want) { w.RetiringPrincipal = aws.String("") }, "ValidationException", ""},
		"no operations":         {func(w *want) { w.Operations = ops() }, "ValidationException", ""},
		"no operation at all":   {func(w *want) { w.Operations = []types.GrantOperation{} }, "ValidationException", "A grant must contain at least one operation."},
		"an unknown operation": {func(w *want) { w.Operations = ops("Decrypt", "ListGrants") }, "ValidationException",
			"1 validation error detected: Value '[Decrypt, ListGrants]' at 'operations' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [" + operations + "]]"},
		"only CreateGrant":       {func(w *want) { w.Operations = ops("CreateGrant") }, "ValidationException", "Grants must not contain only the CreateGrant operation."},
		"only CreateGrant twice": {func(w *want) { w.Operations = ops("CreateGrant", "CreateGrant") }, "ValidationException", "Grants must not contain only the CreateGrant operation."},
		"another kind of key":    {func(w *want) { w.Operations = ops("Decrypt", "Sign") }, "ValidationException", "Operation Sign is not supported by a key with KeySpec SYMMETRIC_DEFAULT and KeyUsage ENCRYPT_DECRYPT."},
		"all there are": {func(w *want) {
			w.Operations = ops("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
				"CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")
		}, "", ""},
		"two constraints": {func(w *want) {
			w.Constraints = &types.GrantConstraints{EncryptionContextSubset: pairsOf(1, 1), EncryptionContextEquals: map[string]string{}}
		}, "ValidationException", "More than one constraint supplied"},
		"no constraint":    {func(w *want) { w.Constraints = &types.GrantConstraints{} }, "", ""},
		"8 pairs":          {func(w *want) { w.Constraints = &types.GrantConstraints{EncryptionContextSubset: pairsOf(8, 1)} }, "", ""},
		"9 pairs":          {func(w *want) { w.Constraints = &types.GrantConstraints{EncryptionContextSubset: pairsOf(9, 1)} }, "ValidationException", "A grant constraint can include up to 8 encryption context pairs."},
		"9 exact pairs":    {func(w *want) { w.Constraints = &types.GrantConstraints{EncryptionContextEquals: pairsOf(9, 1)} }, "ValidationException", "A grant constraint can include up to 8 encryption context pairs."},
		"384 characters":   {func(w *want) { w.Constraints = &types.GrantConstraints{EncryptionContextEquals: pairsOf(2, 384)} }, "", ""},
		"385 characters":   {func(w *want) { w.Constraints = &types.GrantConstraints{EncryptionContextEquals: pairsOf(2, 385)} }, "ValidationException", "The encryption context value in a grant constraint cannot exceed 384 characters."},
		"a name of 256":    {func(w *want) { w.Name = aws.String(strings.Repeat("n", 256)) }, "", ""},
		"a name of 257":    {func(w *want) { w.Name = aws.String(strings.Repeat("n", 257)) }, "ValidationException", ""},
		"an empty name":    {func(w *want) { w.Name = aws.String("") }, "ValidationException", ""},
		"a spaced name":    {func(w *want) { w.Name = aws.String("a b") }, "ValidationException", "1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		"11 tokens":        {func(w *want) { w.GrantTokens = slices.Repeat([]string{"t"}, 11) }, "ValidationException", ""},
		"no token of ours": {func(w *want) { w.GrantTokens = []string{"t"} }, "InvalidGrantTokenException", "The grant token is not valid."},
		"a dry run":        {func(w *want) { w.DryRun = aws.Bool(true) }, "DryRunOperationException", ""},
	} {
		before := len(s.grants(kms.ListGrantsInput{}))
		w := to(aliceARN, "Decrypt", "Encrypt")
		c.change(&w)
		_, err := s.tryGrant("root", w)
		t.Run(what, func(t *testing.T) {
			made := len(s.grants(kms.ListGrantsInput{})) - before
			switch {
			case c.code == "" && (err != nil || made != 1):
				t.Errorf("%v, %d grants", err, made)
			case c.code != "" && made != 0:
				t.Error("it was refused and did something")
			case c.code != "" && c.message != "":
				says(t, err, c.code, c.message)
			case c.code != "" && w.Operations != nil && *w.GranteePrincipal != "" && deref(w.KeyId) != "" && deref(w.RetiringPrincipal) != "" && deref(w.Name) != "":
				refused(t, err, c.code)
			case c.code != "" && err == nil:
				t.Error("it was accepted")
			}
		})
	}
}

func deref(p *string) string {
	if p == nil {
		return "absent"
	}
	return *p
}

func TestListedGrant(t *testing.T) {
	s := newStage(t, nil)
	w := being(to(aliceARN, "RetireGrant", "Decrypt", "Decrypt"), "a=1", "B=2")
	w.Name, w.RetiringPrincipal = aws.String("A:name/with_all-signs"), aws.String(strangerARN)
	g := s.grant("root", w)
	if len(*g.GrantId) != 64 || len(*g.GrantToken) > 8192 {
		t.Errorf("id %s, token %s", *g.GrantId, *g.GrantToken)
	}
	list := s.grants(kms.ListGrantsInput{})
	if len(list) != 1 {
		t.Fatalf("%d grants", len(list))
	}
	e := list[0]
	if *e.GrantId != *g.GrantId || *e.Name != *w.Name || *e.GranteePrincipal != aliceARN || *e.RetiringPrincipal != strangerARN ||
		*e.IssuingAccount != "arn:aws:iam::"+home+":root" || *e.KeyId != s.key || e.CreationDate.IsZero() ||
		!slices.Equal(e.Operations, ops("Decrypt", "RetireGrant")) || e.Constraints.EncryptionContextSubset != nil ||
		len(e.Constraints.EncryptionContextEquals) != 2 || e.Constraints.EncryptionContextEquals["B"] != "2" {
		t.Errorf("the grant is listed as %+v", e)
	}
	s.grant("root", including(to(bobARN, "Decrypt"), "a=1"))
	plain := s.grant("root", to(bobARN, "Decrypt"))
	if e := s.grants(kms.ListGrantsInput{GrantId: plain.GrantId})[0]; e.Constraints != nil || e.RetiringPrincipal != nil || deref(e.Name) != "" {
		t.Errorf("a plain grant is listed as %+v", e)
	}
	for in, n := range map[*kms.ListGrantsInput]int{
		{}:                                     3,
		{GranteePrincipal: aws.String(bobARN)}: 2,
		{GranteePrincipal: aws.String(bobARN), GrantId: plain.GrantId}:   1,
		{GranteePrincipal: aws.String(aliceARN), GrantId: plain.GrantId}: 0,
		{GranteePrincipal: aws.String(strangerARN)}:                      0,
		{GranteePrincipal: aws.String("AIDAEXAMPLEEXAMPLE234")}:          0,
		{GrantId: aws.String(strings.Repeat("0", 64))}:                   0,
	} {
		if list := s.grants(*in); len(list) != n {
			t.Errorf("%d grants, not %d", len(list), n)
		}
	}
	for in, code := range map[*kms.ListGrantsInput]string{
		{GranteePrincipal: aws.String("nobody")}:        "InvalidArnException",
		{GranteePrincipal: aws.String("*")}:             "ValidationException",
		{GrantId: aws.String("x")}:                      "InvalidGrantIdException",
		{GrantId: aws.String(strings.Repeat("0", 129))}: "ValidationException",
		{Limit: aws.Int32(0)}:                           "ValidationException",
		{Limit: aws.Int32(101)}:                         "ValidationException",
		{Marker: aws.String("x")}:                       "InvalidMarkerException",
	} {
		in.KeyId = &s.key
		_, err := s.clients["root"].ListGrants(t.Context(), in)
		refused(t, err, code)
	}
}

// TestGrantPages: a page has 50 grants, or as many as are asked for up to 100.
func TestGrantPages(t *testing.T) {
	s := newStage(t, nil)
	other := arnPrefix + "key/" + newKey(t, s.clients["root"])
	made := map[string]bool{}
	for i := range 103 {
		w := to(bobARN, "Decrypt")
		w.RetiringPrincipal = aws.String(aliceARN)
		if i%2 == 1 {
			w.KeyId = &other
		}
		made[*s.grant("root", w).GrantId] = true
	}
	s.grant("root", to(bobARN, "Decrypt")) // which nobody retires
	for _, c := range []struct {
		limit *int32
		pages []int
	}{
		{nil, []int{50, 50, 3}}, {aws.Int32(100), []int{100, 3}}, {aws.Int32(34), []int{34, 34, 34, 1}},
	} {
		seen := map[string]bool{}
		var pages []int
		p := kms.NewListRetirableGrantsPaginator(s.clients["root"], &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(aliceARN), Limit: c.limit})
		for p.HasMorePages() {
			out, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if out.Truncated != (out.NextMarker != nil) {
				t.Error("Truncated and NextMarker differ")
			}
			pages = append(pages, len(out.Grants))
			for _, g := range out.Grants {
				if seen[*g.GrantId] || !made[*g.GrantId] || *g.RetiringPrincipal != aliceARN {
					t.Errorf("%s is on two pages or not ours", *g.GrantId)
				}
				seen[*g.GrantId] = true
			}
		}
		if !slices.Equal(pages, c.pages) || len(seen) != 103 {
			t.Errorf("the pages have %v grants", pages)
		}
	}
	if list := s.grants(kms.ListGrantsInput{Limit: aws.Int32(7)}); len(list) != 53 {
		t.Errorf("%d grants on the first key", len(list))
	}
}

func TestListRetirableGrants(t *testing.T) {
	s := newStage(t, map[string]string{
		"alice":    identityPolicy(`{"Effect": "Allow", "Action": "kms:ListRetirableGrants", "Resource": "` + aliceARN + `"}`),
		"stranger": identityPolicy(`{"Effect": "Allow", "Action": "kms:ListRetirableGrants", "Resource": "*"}`),
	})
	// A key policy has no say.
	s.put(statements(`{"Effect": "Allow", "Principal": "*", "Action": "kms:ListRetirableGrants", "Resource": "*"}`))
	for _, arn := range []string{aliceARN, strangerARN} {
		w := to(bobARN, "Decrypt")
		w.RetiringPrincipal = &arn
		s.grant("root", w)
	}
	list := func(who, arn string) (int, error) {
		out, err := s.clients[who].ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: &arn})
		if err != nil {
			return 0, err
		}
		return len(out.Grants), nil
	}
	for _, c := range []struct {
		who, arn string
		n        int
		code     string
	}{
		{"root", aliceARN, 1, ""},
		{"root", bobARN, 0, ""},
		{"alice", aliceARN, 1, ""},
		{"alice", bobARN, 0, "AccessDeniedException"},
		{"bob", bobARN, 0, "AccessDeniedException"},
		{"stranger", strangerARN, 1, ""}, // of a key in another account
		{"stranger", aliceARN, 0, "AccessDeniedException"},
		{"stranger's root", aliceARN, 0, "AccessDeniedException"},
		{"root", strangerARN, 0, "AccessDeniedException"},
		{"root", "nobody", 0, "InvalidArnException"},
		{"root", aliceARN + "2", 0, "InvalidArnException"},
		{"root", "*", 0, "ValidationException"},
	} {
		n, err := list(c.who, c.arn)
		switch {
		case c.code != "":
			t.Run(c.who+" "+c.arn, func(t *testing.T) { refused(t, err, c.code) })
		case err != nil || n != c.n:
			t.Errorf("%s lists %d grants of %s: %v", c.who, n, c.arn, err)
		}
	}
}

func TestNamedGrants(t *testing.T) {
	s := newStage(t, nil)
	w := including(to(aliceARN, "Decrypt"), "a=1")
	if one, two := s.grant("root", w), s.grant("root", w); *one.GrantId == *two.GrantId {
		t.Error("two grants without a name are one")
	}
	w.Name = aws.String("n")
	first, again := s.grant("root", w), s.grant("root", w)
	if *first.GrantId != *again.GrantId || *first.GrantToken == *again.GrantToken {
		t.Errorf("a repetition is answered with %s %s after %s %s", *again.GrantId, *again.GrantToken, *first.GrantId, *first.GrantToken)
	}
	other := w
	other.Operations = ops("Encrypt")
	if *s.grant("root", other).GrantId == *first.GrantId {
		t.Error("a name stands for two grants")
	}
	if n := len(s.grants(kms.ListGrantsInput{})); n != 4 {
		t.Errorf("%d grants", n)
	}
	// All tokens are good.
	for _, token := range []*string{first.GrantToken, again.GrantToken} {
		_, err := s.clients["root"].RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: token, DryRun: aws.Bool(true)})
		refused(t, err, "DryRunOperationException")
	}
	s.revoke(first.GrantId)
	if *s.grant("root", w).GrantId == *first.GrantId {
		t.Error("a revoked grant came back by its name")
	}
}

func TestEndingGrants(t *testing.T) {
	s := newStage(t, nil)
	c := s.clients["root"]
	g := s.grant("root", to(aliceARN, "Decrypt"))
	no := strings.Repeat("0", 64)
	other := newKey(t, c)
	for in, code := range map[*kms.RetireGrantInput]string{
		{}:                   "ValidationException",
		{KeyId: &s.key}:      "ValidationException",
		{GrantId: g.GrantId}: "ValidationException",
		{GrantToken: g.GrantToken, KeyId: &s.key, GrantId: g.GrantId}:  "ValidationException",
		{GrantToken: g.GrantToken, KeyId: &s.key}:                      "ValidationException",
		{GrantToken: aws.String("x")}:                                  "InvalidGrantTokenException",
		{GrantToken: aws.String(strings.Repeat("x", 8193))}:            "ValidationException",
		{KeyId: &s.key, GrantId: aws.String("x")}:                      "InvalidGrantIdException",
		{KeyId: &s.key, GrantId: aws.String(strings.Repeat("0", 129))}: "ValidationException",
		{KeyId: &s.key, GrantId: &no}:                                  "NotFoundException",
		{KeyId: &other, GrantId: g.GrantId}:                            "NotFoundException",
		{KeyId: &s.key, GrantId: g.GrantId, DryRun: aws.Bool(true)}:    "DryRunOperationException",
		{GrantToken: g.GrantToken, DryRun: aws.Bool(true)}:             "DryRunOperationException",
	} {
		_, err := c.RetireGrant(t.Context(), in)
		refused(t, err, code)
	}
	for in, code := range map[*kms.RevokeGrantInput]string{
		{KeyId: &s.key, GrantId: aws.String("x")}:                   "InvalidGrantIdException",
		{KeyId: &s.key, GrantId: &no}:                               "NotFoundException",
		{KeyId: &other, GrantId: g.GrantId}:                         "NotFoundException",
		{KeyId: &s.key, GrantId: g.GrantId, DryRun: aws.Bool(true)}: "DryRunOperationException",
	} {
		_, err := c.RevokeGrant(t.Context(), in)
		refused(t, err, code)
	}
	s.check(allow("alice", "Decrypt"))
	s.revoke(g.GrantId)
	_, err := c.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &s.key, GrantId: g.GrantId})
	says(t, err, "NotFoundException", "Grant ID "+*g.GrantId+" not found")
	_, err = c.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: g.GrantToken})
	refused(t, err, "InvalidGrantTokenException")
}

// TestGrantTokens: a token has to be a true one, and lets nobody in.
func TestGrantTokens(t *testing.T) {
	s := newStage(t, nil)
	g := s.grant("root", to(aliceARN, "Decrypt", "DescribeKey", "CreateGrant", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"))
	ended := s.grant("root", to(aliceARN, "Decrypt"))
	s.revoke(ended.GrantId)
	blob := s.blob(sentence{})
	uses := map[string]func(c *kms.Client, tokens []string) error{
		"Decrypt": func(c *kms.Client, tokens []string) error {
			_, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, GrantTokens: tokens})
			return err
		},
		"DescribeKey": func(c *kms.Client, tokens []string) error {
			_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &s.key, GrantTokens: tokens})
			return err
		},
		"Encrypt": func(c *kms.Client, tokens []string) error {
			_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("p"), GrantTokens: tokens})
			return err
		},
		"GenerateDataKey": func(c *kms.Client, tokens []string) error {
			_, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &s.key, KeySpec: types.DataKeySpecAes256, GrantTokens: tokens})
			return err
		},
		"GenerateDataKeyWithoutPlaintext": func(c *kms.Client, tokens []string) error {
			_, err := c.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &s.key, KeySpec: types.DataKeySpecAes256, GrantTokens: tokens})
			return err
		},
		"ReEncrypt": func(c *kms.Client, tokens []string) error {
			_, err := c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: &s.key, GrantTokens: tokens})
			return err
		},
		"CreateGrant": func(c *kms.Client, tokens []string) error {
			_, err := c.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &s.key, GranteePrincipal: aws.String(strangerARN), Operations: ops("Decrypt"), GrantTokens: tokens})
			return err
		},
	}
	for name, use := range uses {
		for _, tokens := range [][]string{nil, {*g.GrantToken}, slices.Repeat([]string{*g.GrantToken}, 10)} {
			if err := use(s.clients["alice"], tokens); err != nil {
				t.Errorf("%s with %d tokens: %v", name, len(tokens), err)
			}
		}
		for code, c := range map[string]struct {
			who    string
			tokens []string
		}{
			"ValidationException":           {"alice", slices.Repeat([]string{*g.GrantToken}, 11)},
			"InvalidGrantTokenException":    {"alice", []string{*g.GrantToken, "made up"}},
			"InvalidGrantTokenException, 2": {"alice", []string{*ended.GrantToken}},
			"AccessDeniedException":         {"bob", []string{*g.GrantToken}},
		} {
			err := use(s.clients[c.who], c.tokens)
			t.Run(name+" "+code, func(t *testing.T) { refused(t, err, strings.TrimSuffix(code, ", 2")) })
		}
	}
}
