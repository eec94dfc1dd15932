// Package keysvc is the key service: the keeper of KMS keys, behind the AWS KMS
// API.
//
// [Open] returns a [Service]: one method for each KMS action, and the store
// below them. [Server] puts a Service behind a unix socket: the AWS KMS JSON 1.1
// protocol for everybody, and a private batch protocol with which a mount makes,
// opens and re-wraps many data keys in one round trip. Behind a [RemoteListener] it
// answers the network: AWS's protocols only, in signed requests.
//
// Key material is reachable through [Service.perform] only, which authorizes
// the caller and checks the key's state before it hands any out. It refuses whoever
// is not within a call (call.go): the front, a batch and [Call] begin one, and
// record it in the audit log before they answer.
//
// Users, roles and their policies (identity*.go, internal/identity) are managed by IAM's
// actions, on a path of the unix socket only. All that is given to them is given to
// their unique ids, which do not come back as names do. The secrets of access keys are
// records of their own and opened into locked memory for each use.
//
// Time changes keys, too: what is due (deletion.go, rotation.go) is done by one
// goroutine (lifecycle.go). All dates of keys are of one clock, which a store for
// rehearsals has a simulated one of (clock.go).
//
// Words: a KMS key never leaves the service. Its key material is what encrypts;
// a key has a list of them, the last is current. A data key is what the service
// makes for others, and returns wrapped as a CiphertextBlob. A caller is a
// principal, learned from the peer credentials of the connection or from a signature.
// A stranger is who connected over the network and has signed nothing yet.
package keysvc
