package kmsapi

import (
	"fmt"
	"time"
)

// The private protocol by which the CLI manages users, roles and policies: IAM's
// actions, with IAM's names and members, spoken in JSON as the KMS API is. It is
// there on the unix socket only.
const (
	IdentityPath         = "/kmsfs/identity"
	IdentityTargetPrefix = "KmsfsIdentity."
	// AccountHeader names the account whose root user the caller wants to be, for a
	// caller who is root of all: the superuser or the service's owner.
	AccountHeader = "X-Kmsfs-Account"
)

// The actions on users and roles, and on what they have.
const (
	OpCreateUser     = "CreateUser"
	OpListUsers      = "ListUsers"
	OpCreateRole     = "CreateRole"
	OpListRoles      = "ListRoles"
	OpUpdateRole     = "UpdateRole"
	OpUpdateTrust    = "UpdateAssumeRolePolicy"
	OpCreatePolicy   = "CreatePolicy"
	OpGetPolicy      = "GetPolicy"
	OpListPolicies   = "ListPolicies"
	OpDeletePolicy   = "DeletePolicy"
	OpCreateVersion  = "CreatePolicyVersion"
	OpGetVersion     = "GetPolicyVersion"
	OpListVersions   = "ListPolicyVersions"
	OpDefaultVersion = "SetDefaultPolicyVersion"
	OpDeleteVersion  = "DeletePolicyVersion"
	OpCreateAccess   = "CreateAccessKey"
	OpListAccess     = "ListAccessKeys"
	OpUpdateAccess   = "UpdateAccessKey"
	OpDeleteAccess   = "DeleteAccessKey"
)

// The kinds of entities, as the names of actions have them.
const (
	KindUser = "User"
	KindRole = "Role"
)

// The actions that there are on users and on roles: each makes the name of one
// for the kind.
func OpGet(kind string) string            { return "Get" + kind }
func OpDelete(kind string) string         { return "Delete" + kind }
func OpTag(kind string) string            { return "Tag" + kind }
func OpUntag(kind string) string          { return "Untag" + kind }
func OpListTags(kind string) string       { return fmt.Sprintf("List%sTags", kind) }
func OpAttach(kind string) string         { return fmt.Sprintf("Attach%sPolicy", kind) }
func OpDetach(kind string) string         { return fmt.Sprintf("Detach%sPolicy", kind) }
func OpListAttached(kind string) string   { return fmt.Sprintf("ListAttached%sPolicies", kind) }
func OpPutInline(kind string) string      { return fmt.Sprintf("Put%sPolicy", kind) }
func OpGetInline(kind string) string      { return fmt.Sprintf("Get%sPolicy", kind) }
func OpDeleteInline(kind string) string   { return fmt.Sprintf("Delete%sPolicy", kind) }
func OpListInline(kind string) string     { return fmt.Sprintf("List%sPolicies", kind) }
func OpPutBoundary(kind string) string    { return fmt.Sprintf("Put%sPermissionsBoundary", kind) }
func OpDeleteBoundary(kind string) string { return fmt.Sprintf("Delete%sPermissionsBoundary", kind) }

// EntityName says which user or role a request is about: the actions on users
// have UserName, those on roles RoleName.
type EntityName struct {
	UserName string `json:",omitempty"`
	RoleName string `json:",omitempty"`
}

// NameOf returns an EntityName for the kind.
func NameOf(kind, name string) EntityName {
	if kind == KindRole {
		return EntityName{RoleName: name}
	}
	return EntityName{UserName: name}
}

// Name is the name that counts for the kind.
func (n EntityName) Name(kind string) string {
	if kind == KindRole {
		return n.RoleName
	}
	return n.UserName
}

// EntityTag is a user's, a role's or a managed policy's tag.
type EntityTag struct {
	TagKey   string `json:"Key"`
	TagValue string `json:"Value"`
}

// EntityInput is the input of the actions that take a user or a role and nothing
// else.
type EntityInput struct{ EntityName }

// AttachedPermissionsBoundary is a user's or a role's permissions boundary.
type AttachedPermissionsBoundary struct {
	PermissionsBoundaryType string // PermissionsBoundaryPolicy
	PermissionsBoundaryArn  string
}

type CreateUserInput struct {
	Path                *string     `json:",omitempty"`
	PermissionsBoundary *string     `json:",omitempty"`
	Tags                []EntityTag `json:",omitempty"`
	UserName            string
}

// User is what IAM tells about a user. The users of this machine who were never given
// anything have no CreateDate.
type User struct {
	Path                string
	UserName            string
	UserID              string `json:"UserId"`
	Arn                 string
	CreateDate          time.Time                    `json:",omitzero"`
	PermissionsBoundary *AttachedPermissionsBoundary `json:",omitempty"`
	Tags                []EntityTag                  `json:",omitempty"`
}

type CreateRoleInput struct {
	AssumeRolePolicyDocument string
	Description              string      `json:",omitempty"`
	MaxSessionDuration       *int        `json:",omitempty"`
	Path                     *string     `json:",omitempty"`
	PermissionsBoundary      *string     `json:",omitempty"`
	RoleName                 string      `json:",omitempty"`
	Tags                     []EntityTag `json:",omitempty"`
}

// Role is what IAM tells about a role.
type Role struct {
	Path                     string
	RoleName                 string
	RoleID                   string `json:"RoleId"`
	Arn                      string
	CreateDate               time.Time
	AssumeRolePolicyDocument string
	Description              string `json:",omitempty"`
	MaxSessionDuration       int
	PermissionsBoundary      *AttachedPermissionsBoundary `json:",omitempty"`
	Tags                     []EntityTag                  `json:",omitempty"`
}

// EntityOutput is the output of the actions that create or get a user or a role: it
// has the one that the action is on.
type EntityOutput struct {
	User *User `json:",omitempty"`
	Role *Role `json:",omitempty"`
}

type ListEntitiesInput struct {
	Marker     *string `json:",omitempty"`
	MaxItems   *int    `json:",omitempty"`
	PathPrefix *string `json:",omitempty"`
}

type ListUsersOutput struct {
	Users       []User
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

type ListRolesOutput struct {
	Roles       []Role
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

type UpdateTrustInput struct {
	PolicyDocument string
	RoleName       string
}

type UpdateRoleInput struct {
	Description        *string `json:",omitempty"`
	MaxSessionDuration *int    `json:",omitempty"`
	RoleName           string
}

type BoundaryInput struct {
	EntityName
	PermissionsBoundary string
}

type TagEntityInput struct {
	EntityName
	Tags []EntityTag
}

type UntagEntityInput struct {
	EntityName
	TagKeys []string
}

// ListOfEntityInput is the input of the actions that list something of a user
// or a role.
type ListOfEntityInput struct {
	EntityName
	Marker   *string `json:",omitempty"`
	MaxItems *int    `json:",omitempty"`
}

type ListEntityTagsOutput struct {
	Tags        []EntityTag
	IsTruncated bool
	Marker      string `json:",omitempty"`
}
