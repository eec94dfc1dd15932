// Package worker is the door of a worker, the process that serves one mount: what others
// than the kernel ask of it, over a unix socket.
//
//	POST /v1/rewrap   re-wrap the volume's keys under the KMS key's newest material
//
// The answer is a stream of JSON values, one to a line, each an [Event]: what has been
// done so far, twice a second, and the outcome last. Who hangs up breaks the work off.
//
// The socket is named after the volume and lies in the directory "mounts" beside the
// key service's. It answers root and the worker's own user, by the peer credentials of
// the connection, and nobody else.
package worker
