package keysvc

import (
	"kmsfs.dev/kmsfs/keysvc/internal/strictjson"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// decode reads a request's members from body, strictly: what leaves room for two
// readers to see two requests is refused or, as unknown members are, ignored.
func decode(body []byte, in any) error {
	if err := strictjson.Decode(body, strictjson.AWS, in); err != nil {
		return serialization(err.Error())
	}
	return nil
}

func serialization(message string) error {
	return &kmsapi.Error{Code: kmsapi.CodeSerialization, Message: message}
}
