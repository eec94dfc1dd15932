package keysvc

import (
	"bytes"
	"encoding/xml"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// queryProtocol is AWS Query, which STS speaks: the request is a form, the answer
// is XML.
type queryProtocol struct{ actions map[string]action }

const (
	formType = "application/x-www-form-urlencoded"
	// maxForm bounds what is taken apart; the actions here have no large parameters.
	maxForm, maxFormParameters = 16 << 10, 100

	stsNamespace = "https://sts.amazonaws.com/doc/" + kmsapi.STSVersion + "/"
)

func isForm(r *http.Request) bool {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && t == formType
}

func (queryProtocol) service() string     { return "sts" }
func (queryProtocol) contentType() string { return "text/xml" }

// operation reads the body. AWS takes a query string too, which is not looked at here.
func (queryProtocol) operation(r *http.Request, body []byte) (string, error) {
	if r.Method != http.MethodPost {
		return "", errorf("InvalidAction", "Requests are sent by POST.")
	}
	if len(body) > maxForm || bytes.Count(body, []byte("&")) >= maxFormParameters {
		return "", errorf("MalformedInput", "The request is too large.")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", errorf("MalformedInput", "The request's parameters are malformed.")
	}
	for name, values := range form {
		if len(values) != 1 {
			return "", errorf("MalformedInput", "The request has a parameter more than once: %s.", name)
		}
	}
	op, version := form.Get("Action"), form.Get("Version")
	switch {
	case op == "":
		return "", errorf("MissingAction", "The request must contain the parameter Action.")
	case version != kmsapi.STSVersion:
		return op, errNoAction(op, version)
	}
	return op, nil
}

// action has no input to give: the actions that there are have no parameters.
func (p queryProtocol) action(op string, _ []byte) (action, []byte, error) {
	act, ok := p.actions[op]
	if !ok {
		return nil, nil, errNoAction(op, kmsapi.STSVersion)
	}
	return act, nil, nil
}

func errNoAction(op, version string) error {
	return errorf("InvalidAction", "Could not find operation %s for version %s", op, version)
}

// encode appends <XResponse><XResult>...</XResult><ResponseMetadata>, with X from the
// type of the output, XOutput.
func (queryProtocol) encode(b []byte, out any, requestID string) ([]byte, error) {
	type metadata struct {
		RequestID string `xml:"RequestId"`
	}
	name := strings.TrimSuffix(reflect.TypeOf(out).Elem().Name(), "Output")
	body, err := encodeXML(name+"Response", func(e *xml.Encoder) error {
		return errors.Join(
			e.EncodeElement(out, element(name+"Result")),
			e.EncodeElement(metadata{requestID}, element("ResponseMetadata")))
	})
	return append(b, body...), err
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

// encodeXML writes an element of STS's namespace.
func encodeXML(name string, content func(*xml.Encoder) error) ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	root := element(name)
	root.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: stsNamespace}}
	if err := errors.Join(e.EncodeToken(root), content(e), e.EncodeToken(root.End()), e.Close()); err != nil {
		return nil, err
	}
	return append(b.Bytes(), '\n'), nil
}

// queryErrors are the names and statuses in this protocol of what both protocols
// refuse.
var queryErrors = map[string]struct {
	code   string
	status int
}{
	sigv4.CodeMissingAuthenticationToken: {"MissingAuthenticationToken", http.StatusForbidden},
	sigv4.CodeIncompleteSignature:        {"IncompleteSignature", http.StatusBadRequest},
	sigv4.CodeInvalidSignature:           {"SignatureDoesNotMatch", http.StatusForbidden},
	sigv4.CodeUnrecognizedClient:         {"InvalidClientTokenId", http.StatusForbidden},
	sigv4.CodeExpiredToken:               {"ExpiredToken", http.StatusForbidden},
	kmsapi.CodeAccessDenied:              {"AccessDenied", http.StatusForbidden},
	kmsapi.CodeSerialization:             {"MalformedInput", http.StatusBadRequest},
	kmsapi.CodeThrottling:                {"Throttling", http.StatusBadRequest},
	kmsapi.CodeUnknownOperation:          {"InvalidAction", http.StatusBadRequest},
	kmsapi.CodeInternal:                  {"InternalFailure", http.StatusInternalServerError},
	kmsapi.CodeKeyUnavailable:            {"ServiceUnavailable", http.StatusServiceUnavailable},
}

func (queryProtocol) encodeError(refusal *kmsapi.Error, requestID string) (int, []byte) {
	type fault struct {
		Type, Code, Message string
	}
	f := fault{"Sender", refusal.Code, refusal.Message}
	status := refusal.HTTPStatus()
	if known, ok := queryErrors[refusal.Code]; ok {
		f.Code, status = known.code, known.status
	}
	if status >= http.StatusInternalServerError {
		f.Type = "Receiver"
	}
	body, err := encodeXML("ErrorResponse", func(e *xml.Encoder) error {
		return errors.Join(e.EncodeElement(f, element("Error")), e.EncodeElement(requestID, element("RequestId")))
	})
	if err != nil {
		panic(err) // of four strings
	}
	return status, body
}
