// Package sigv4 verifies AWS Signature Version 4 on requests that arrive over the
// network, as an attacker reads it: what a signature does not cover is theirs to
// change, and what two readers may read in two ways is read in theirs.
//
// [Verify] answers who signed a request. It says nothing of what they may do.
// Give it the body as it was read, bounded, and act on nothing else than the
// request and the body that it has seen.
//
// # What is demanded, and why
//
//   - The credentials stand in one Authorization header, AWS4-HMAC-SHA256, with
//     Credential, SignedHeaders and Signature once each. Credentials in the query
//     string are refused, alone and beside the header: a presigned URL is made to be
//     passed on, is logged by whatever it passes, and what it signs is less. (A
//     *parameter* that contains one, such as EC2's PresignedUrl, is data.) SigV4A
//     (AWS4-ECDSA-P256-SHA256) is refused by name.
//   - host, x-amz-date and every other x-amz-* header of the request are signed. An
//     unsigned X-Amz-Target turns a signed DescribeKey into ScheduleKeyDeletion; an
//     unsigned X-Amz-Security-Token lends one session's signature to another.
//     Content-Type and Content-Encoding too, when there are any: they choose how
//     the body is read. AWS asks for the same, Content-Encoding aside
//     (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
//     The amz-sdk-* headers, which the aws CLI adds after signing, and
//     X-Amzn-Trace-Id, which proxies add, are not x-amz-*: nothing here believes them.
//   - Those headers occur once. Two values are signed as one with a comma between,
//     so that "a" and "b" has the signature of "a,b", and a reader of the first value
//     sees neither. Any other header may be repeated.
//   - SignedHeaders is sorted, in lower case, without repetition, and names only what
//     the request has. What is absent would be signed as if it were empty.
//   - The time is x-amz-date, in ISO 8601's basic format to the second, and at most
//     [MaxSkew] from now. AWS takes the Date header in its absence; every signer
//     that we know sends x-amz-date, and two places for one fact are one too many.
//     Inside that window a request may be replayed, here as at AWS: only TLS keeps
//     others from having it.
//   - The credential's scope is that day, this region, the service that is asked for
//     and aws4_request. A key derived for one day, region or service signs for no other.
//   - The payload's hash is that of the body, computed here. x-amz-content-sha256, if
//     there is one, must say the same; UNSIGNED-PAYLOAD and STREAMING-* are S3's way to
//     leave the body out and are refused.
//   - Header values have no control characters: a line feed would end a line of the
//     canonical request and begin another.
//
// # The canonical request
//
// It is made as for every service but S3. The path is what was on the wire, with "."
// and ".." resolved and slashes folded, and encoded once more; the query's
// parameters are decoded, encoded in AWS's way and sorted; header values are
// trimmed and runs of spaces made one. So distinct requests share a signature when
// they differ in nothing else than that: serve no path but "/" and read no query
// string, as KMS and STS need neither, and none is left that matters.
//
// # Secrets and time
//
// A secret access key is lent by the caller's [Lookup] for the time of one derivation,
// and neither kept nor mentioned in an error. Derived keys are kept in a [Cache], if
// there is one, in locked memory.
//
// Signatures are compared in constant time. For an unknown access key a
// signature is computed and compared all the same, so that it takes the work
// that a wrong signature takes. The two answers differ, as AWS's do
// (UnrecognizedClientException, InvalidSignatureException): an access key's ID is
// no secret.
//
// # What is left to the caller
//
//   - Bound the body before it is read, and give [Verify] all of it.
//   - Decide by X-Amz-Target which service is asked, and verify for that one.
//   - Check [Result.SessionToken], and find the access key's owner, each time.
//   - Tell the [Cache] when an access key is no longer good.
//   - Believe no header that is neither in [Result.SignedHeaders] nor harmless.
//   - Record refusals, with [Error.AccessKeyID] as a claim.
//
// # Errors
//
// Refusals are of type [*Error], with the codes and words of AWS's JSON protocols.
// All come with HTTP status 400 there. The query protocol (STS, IAM) has other names
// and statuses for them, which are the caller's to map:
//
//	MissingAuthenticationTokenException  MissingAuthenticationToken  403
//	IncompleteSignatureException         IncompleteSignature         400
//	InvalidSignatureException            SignatureDoesNotMatch       403
//	UnrecognizedClientException          InvalidClientTokenId        403
//	ExpiredTokenException                ExpiredToken                403
package sigv4
