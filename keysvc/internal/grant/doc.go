// Package grant is what grants on KMS keys say: who may do what with which
// encryption context, who may retire them, and which grants may be made by
// right of another. It knows no policies and no store.
//
// A [Grant] is immutable. A [Set] is all grants of one key, and finds the one that
// covers a request in a time that does not depend on how many there are.
//
// Where AWS's documentation leaves a question open, the answer here is the one
// that allows less; each such place says so.
//
// # Glossary
//
// Grantee: who gets the permissions. Retiring principal: who may retire the grant
// besides. Issuing account: the account of who created it.
//
// Constraint: the encryption context that requests must have, or include, for
// the grant to count.
//
// Child grant: one that was created by right of another, the parent, which has
// CreateGrant among its operations. It says no more than its parent, and lives on
// without it.
//
// Token: names one grant, and is made anew each time the grant is asked for. In AWS it
// makes a grant usable before all of the service has heard of it. Here grants
// count at once, and a token only has to be a true one.
package grant
