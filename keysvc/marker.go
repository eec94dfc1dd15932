package keysvc

import (
	"encoding/base64"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// A marker names the last item of the page before. It is opaque to clients, and
// of a form of its own so that a made-up one is refused.
const markerPrefix = "v1:"

func makeMarker(last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(markerPrefix + last))
}

func parseMarker(marker string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(marker)
	last, ok := strings.CutPrefix(string(raw), markerPrefix)
	if err != nil || !ok {
		return "", errorf(kmsapi.CodeInvalidMarker, "Could not deserialize marker '%s'", marker)
	}
	return last, nil
}
