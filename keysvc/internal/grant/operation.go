package grant

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
)

// The operations that the rules of grants themselves are about.
const (
	CreateGrant = "CreateGrant"
	RetireGrant = "RetireGrant"
	DescribeKey = "DescribeKey"
)

// names are all operations that a grant may permit, in the order of the API's
// model. The place in it is the bit in Operations, which is never stored.
var names = []string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify",
	"GetPublicKey", CreateGrant, RetireGrant, DescribeKey, "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac",
	"VerifyMac", "DeriveSharedSecret",
}

// OperationNames returns all operations that a grant may permit.
func OperationNames() []string { return slices.Clone(names) }

// Operations is a set of them.
type Operations uint32

// OperationsOf makes a set. unknown is the first name that is of no operation.
func OperationsOf(list ...string) (set Operations, unknown string) {
	for _, name := range list {
		one := only(name)
		if one == 0 && unknown == "" {
			unknown = name
		}
		set |= one
	}
	return set, unknown
}

// only is the set of one operation, empty for an unknown one.
func only(name string) Operations {
	i := slices.Index(names, name)
	if i < 0 {
		return 0
	}
	return 1 << i
}

// Has tells whether the operation is in the set.
func (o Operations) Has(name string) bool { return o&only(name) != 0 }

// Within tells whether all of o is in other.
func (o Operations) Within(other Operations) bool { return o&^other == 0 }

// Names lists the set in the order of the API's model.
func (o Operations) Names() []string {
	list := make([]string, 0, bits.OnesCount32(uint32(o)))
	for i, name := range names {
		if o&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// MarshalJSON writes the names.
func (o Operations) MarshalJSON() ([]byte, error) { return json.Marshal(o.Names()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (o *Operations) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	set, unknown := OperationsOf(list...)
	if unknown != "" {
		return fmt.Errorf("unknown grant operation %q", unknown)
	}
	*o = set
	return nil
}

// withoutContext are the operations that have no encryption context and may be in
// a grant with a constraint. The constraint does not apply to them.
var withoutContext, _ = OperationsOf(RetireGrant, DescribeKey)

// symmetric is what a symmetric encryption key can do.
var symmetric, _ = OperationsOf("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom",
	"ReEncryptTo", CreateGrant, RetireGrant, DescribeKey, "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")

// Symmetric is what grants on a symmetric encryption key may permit.
func Symmetric() Operations { return symmetric }
