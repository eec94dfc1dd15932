// Package identity is the model of IAM's users, roles, policies and access keys:
// what they are called, what is allowed of them, and an index that answers who
// somebody is and which policies limit them. It stores nothing and knows no
// secret; the key service does both.
//
// A [Directory] holds immutable values. What changes one makes a copy (the With...
// methods of [Entity] and [Policy], which apply IAM's rules and limits); the copy is
// stored and then put into the Directory.
//
// # Glossary
//
// Entity: a user or a role. Its name is unique among the users, or the roles, of its
// account, whatever its path and letter case are.
//
// Unique id: AIDA... of a user, AROA... of a role, ANPA... of a policy. Names come
// back, ids never do: all that somebody was given hangs on the id, so that a user
// created again under an old name inherits nothing.
//
// Managed policy: a policy with an ARN of its own, attached to any number of entities, or
// set as their permissions boundary. It has up to five versions; the default one counts.
//
// Inline policy: a part of the entity.
//
// Trust policy: a role's, about who may assume it. It names principals, and is bound to their
// ids when it is put.
package identity
