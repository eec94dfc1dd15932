package strictjson

import "reflect"

// The two ways of Decode, for those who compare them.
var DecodePlain = decodePlain

func DecodeWary(data []byte, l Limits, v any) error {
	return decodeWary(data, l, v, reflect.TypeOf(v))
}
