package kmsapi

// STSVersion is the version of the Security Token Service's API, and part of
// the namespace of its answers.
const STSVersion = "2011-06-15"

// OpGetCallerIdentity is the only action of STS here.
const OpGetCallerIdentity = "GetCallerIdentity"

type GetCallerIdentityInput struct{}

// GetCallerIdentityOutput says who asked.
type GetCallerIdentityOutput struct {
	Arn     string
	UserID  string `xml:"UserId"`
	Account string
}
