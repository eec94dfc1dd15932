package keysvc

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Describe fills in c with the facts about the access that conditions can ask for:
// AWS's global condition keys that have a meaning here, and those of KMS. What a key
// policy never looks at (tags and aliases of the key) is left out unless there are
// identity-based policies.
func (e *evaluation) Describe(c *policy.Context) {
	s, a, p := e.service, &e.access, &e.policies
	c.SetPrincipal(&a.caller.Principal)
	s.describeRequest(&a.caller, c)
	if a.conditions != nil {
		a.conditions(c)
	}
	if a.key == nil {
		return
	}
	r := &a.key.record
	c.Set("aws:ResourceAccount", r.Account)
	c.Set("kms:CallerAccount", a.caller.Account)
	c.Set("kms:MultiRegion", strconv.FormatBool(r.MultiRegion))
	setKeyKind(c, r.Spec, r.Usage, r.Origin)
	if a.requestAlias != "" {
		c.Set("kms:RequestAlias", a.requestAlias)
	}
	if a.caller.ViaService != "" {
		c.Set("kms:ViaService", a.caller.ViaService)
	}
	if usedAs(a.action) != "" {
		c.Set("kms:EncryptionAlgorithm", kmsapi.SpecSymmetricDefault)
	}
	setEncryptionContext(c, a.context)
	if len(p.Identity) > 0 || p.Boundary != nil {
		for _, t := range r.Tags {
			c.Set("aws:ResourceTag/"+t.TagKey, t.TagValue)
		}
		c.SetList("kms:ResourceAliases", s.index.aliasesOf(r.ID))
	}
}

// describeRequest sets the global keys that do not depend on the resource.
func (s *Service) describeRequest(caller *Caller, c *policy.Context) {
	if c.Asks("aws:CurrentTime") || c.Asks("aws:EpochTime") {
		now := s.wall() // conditions on time are about the real one
		c.Set("aws:CurrentTime", now.Format(time.RFC3339))
		c.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	}
	c.Set("aws:RequestedRegion", Region)
	// Nobody can listen in on a unix socket.
	c.Set("aws:SecureTransport", strconv.FormatBool(caller.Remote == nil || caller.Remote.TLS != nil))
	c.Set("aws:ViaAWSService", strconv.FormatBool(caller.ViaService != ""))
	if caller.Remote != nil {
		c.Set("aws:SourceIp", caller.Remote.Addr.Unmap().WithZone("").String())
	}
	if caller.UserAgent != "" {
		c.Set("aws:UserAgent", caller.UserAgent)
	}
}

// setKeyKind sets the keys that CreateKey has for the key it makes, and all
// others for theirs.
func setKeyKind(c *policy.Context, spec, usage, origin string) {
	c.Set("kms:KeySpec", spec)
	c.Set("kms:CustomerMasterKeySpec", spec)
	c.Set("kms:KeyUsage", usage)
	c.Set("kms:CustomerMasterKeyUsage", usage)
	c.Set("kms:KeyOrigin", origin)
}

func setEncryptionContext(c *policy.Context, pairs map[string]string) {
	if len(pairs) == 0 {
		return
	}
	for name, value := range pairs {
		c.Set("kms:EncryptionContext:"+name, value)
	}
	if c.Asks("kms:EncryptionContextKeys") {
		c.SetList("kms:EncryptionContextKeys", slices.Collect(maps.Keys(pairs)))
	}
}

// bypassCondition is for the actions that set a key policy.
func bypassCondition(bypass bool) func(*policy.Context) {
	return func(c *policy.Context) {
		c.Set("kms:BypassPolicyLockoutSafetyCheck", strconv.FormatBool(bypass))
	}
}

// numberCondition is for an action with one number that policies may bound.
func numberCondition(name string, value int) func(*policy.Context) {
	return func(c *policy.Context) { c.Set(name, strconv.Itoa(value)) }
}

// setRequestTags sets the keys for tags that a request gives.
func setRequestTags(c *policy.Context, tags []kmsapi.Tag) {
	names := make([]string, len(tags))
	for i, t := range tags {
		c.Set("aws:RequestTag/"+t.TagKey, t.TagValue)
		names[i] = t.TagKey
	}
	c.SetList("aws:TagKeys", names)
}
