package keysvc

import (
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// AWS managed keys are made when an account first names their alias. They belong
// to the service whose name they have: their key policies let nobody change or
// destroy them, and it is the policy alone that does, since nothing goes past it.

const (
	aliasKmsfs = reservedAliases + "kmsfs"
	aliasEBS   = reservedAliases + "ebs"
)

func isManagedAlias(name string) bool { return name == aliasKmsfs || name == aliasEBS }

// manager is who manages the key, as KeyMetadata has it.
func (r *keyRecord) manager() string {
	if r.Manager != "" {
		return r.Manager
	}
	return kmsapi.ManagerCustomer
}

// managedKey finds the AWS managed key behind an alias, or makes it.
func (s *Service) managedKey(account, name string) (*key, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.running.Done()
	s.changing.Lock()
	defer s.changing.Unlock()
	n := keyName{account, name}
	if a := s.index.alias(n); a != nil {
		return s.index.key(a.TargetKeyID), nil // somebody was faster
	}
	r := s.newRecord(account, managedService(name))
	r.Manager = kmsapi.ManagerAWS
	r.Description = "Default key that protects my " + managedUse(name) + " when no other key is defined"
	d, err := policy.Parse(policy.KeyPolicy, []byte(managedPolicy(account, name)))
	if err != nil {
		return nil, err
	}
	_, bound, err := identity.Bind(d, s.bindIDs())
	if err != nil {
		return nil, err
	}
	r.Policy = &bound
	r.Rotation = &rotation{PeriodDays: kmsapi.NormalRotationPeriod, Next: r.CreatedAt.Add(kmsapi.NormalRotationPeriod * 24 * time.Hour)}
	k, err := s.makeKey(r, &alias{Schema: recordSchema, Account: account, Name: name, TargetKeyID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.CreatedAt})
	if err == nil {
		s.recordEvent(eventCreateKey, k, audit.ServiceEventDetails{})
	}
	return k, err
}

func managedUse(name string) string {
	if name == aliasEBS {
		return "EBS volumes"
	}
	return "kmsfs volumes"
}

// managedService is the service that a managed key is for.
func managedService(name string) string {
	if name == aliasEBS {
		return "ec2." + Region + ".amazonaws.com"
	}
	return "kmsfs." + Region + ".amazonaws.com"
}

// managedPolicy is AWS's policy of the key for EBS: volumes are encrypted for
// everybody in the account, but only when EC2 asks. Mounts have no service between
// them and their key, so the key of kmsfs is for whom the account lets in.
func managedPolicy(account, name string) string {
	sid, principal, condition := "Allow use of the key by principals that the account authorizes", `"arn:aws:iam::`+account+`:root"`, ""
	if name == aliasEBS {
		sid, principal = "Allow access through EBS for all principals in the account that are authorized to use EBS", `"*"`
		condition = `,
    "Condition" : {
      "StringEquals" : {
        "kms:CallerAccount" : "` + account + `",
        "kms:ViaService" : "` + managedService(name) + `"
      }
    }`
	}
	return `{
  "Version" : "2012-10-17",
  "Id" : "auto-` + name[len(reservedAliases):] + `-1",
  "Statement" : [ {
    "Sid" : "` + sid + `",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : ` + principal + `
    },
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey" ],
    "Resource" : "*"` + condition + `
  }, {
    "Sid" : "Allow direct access to key metadata to the account",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : [ "kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant" ],
    "Resource" : "*"
  } ]
}`
}
