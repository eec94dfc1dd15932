package policy

import "strings"

// A condition is one key of one operator, with the values it is compared with.
type condition struct {
	key      keyRef
	set      setOperator
	ifExists bool
	negated  bool // a Not operator
	// null is the Null operator, which has no comparison: the condition holds for a key
	// that is not there if absent, for one that is if present.
	null, absent, present bool
	values                values
}

type setOperator int

const (
	plain setOperator = iota
	forAllValues
	forAnyValue
)

// values are a condition's, compared by its operator.
type values interface {
	// match tells whether a value of the request matches any of them.
	match(value string, c *Context) bool
}

// holds evaluates the condition ("IAM JSON policy elements: Condition operators";
// "Single-valued vs. multivalued context keys").
func (k *condition) holds(c *Context, effect Effect) bool {
	found := c.values(k.key)
	if k.null {
		return len(found) == 0 && k.absent || len(found) > 0 && k.present
	}
	if len(found) == 0 {
		switch {
		case k.ifExists || k.set == forAllValues:
			return true
		case k.set == forAnyValue:
			return false
		}
		return k.negated
	}
	// One value is enough for ForAnyValue, and for a plain Deny: see Context.
	enough := k.set == forAnyValue || k.set == plain && effect == Deny
	for _, v := range found {
		if (k.values.match(v, c) != k.negated) == enough {
			return enough
		}
	}
	return !enough
}

// conditions reads {"StringEquals": {"aws:username": "alice"}}.
func (r *reader) conditions(n *node) []condition {
	var out []condition
	if n.kind != objectNode {
		r.faults.add(n.off, "Condition is an object, not %s", n.kind)
		return nil
	}
	for _, m := range n.members {
		op, ok := findOperator(m.name)
		if !ok {
			r.faults.add(m.off, "unknown condition operator %s%s", quote(m.name), suggestOperator(m.name))
		}
		if m.value.kind != objectNode {
			r.faults.add(m.value.off, "a condition operator has an object of keys, not %s", m.value.kind)
		}
		seen := map[string]string{}
		for _, key := range m.value.members {
			folded := foldString(key.name)
			if before, ok := seen[folded]; ok && before != key.name {
				r.faults.add(key.off, "condition key %s is given twice: its case does not matter", quote(key.name))
			}
			seen[folded] = key.name
			values := r.conditionValues(key.value)
			r.checkConditionKey(key, op)
			if ok {
				out = append(out, r.condition(op, key, values))
			}
		}
	}
	return out
}

func (r *reader) checkConditionKey(key member, op operator) {
	prefix, name, _ := strings.Cut(key.name, ":")
	switch {
	case prefix == "" || name == "":
		r.faults.add(key.off, "condition key %s must begin with a service, as in kms:ViaService or aws:username", quote(key.name))
	case r.syntax.variables && strings.Contains(key.name, "${"):
		r.faults.add(key.off, "a condition key has no policy variables, only its values do")
	case r.kind == KeyPolicy && op.set == forAllValues && singleValued(key.name) != "":
		// KMS refuses it too ("AWS KMS condition keys").
		r.faults.add(key.off, "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key "+
			"matches requests without the specified %[1]s or with an unspecified %[1]s. To fix, remove ForAllValues.", singleValued(key.name))
	}
}

// singleValued says what a key is one of, if KMS refuses ForAllValues with it.
func singleValued(key string) string {
	if _, ok := cutFoldPrefix(key, "kms:EncryptionContext:"); ok {
		return "encryption context"
	}
	if _, ok := cutFoldPrefix(key, "aws:RequestTag/"); ok {
		return "tag"
	}
	return ""
}

// conditionValues are a string, a number, a boolean, or an array of them.
func (r *reader) conditionValues(n *node) []*node {
	var out []*node
	for _, item := range r.list(n) {
		switch item.kind {
		case stringNode, numberNode, boolNode:
			out = append(out, item)
		default:
			r.faults.add(item.off, "a condition's value is a string, a number or a boolean, not %s", item.kind)
		}
	}
	if n.kind == arrayNode && len(n.items) == 0 {
		r.faults.add(n.off, "an empty list of values")
	}
	return out
}

func (r *reader) condition(op operator, key member, nodes []*node) condition {
	k := condition{
		key: newKeyRef(r.syntax.policy, key.name), set: op.set, ifExists: op.ifExists, negated: op.negated, null: op.compile == nil,
	}
	texts := make([]string, len(nodes))
	for i, n := range nodes {
		texts[i] = n.text
	}
	if k.null {
		for i, text := range texts {
			switch lower(text) {
			case "true":
				k.absent = true
			case "false":
				k.present = true
			default:
				r.faults.add(nodes[i].off, "Null has the value true or false, not %s", quote(text))
			}
		}
		return k
	}
	var wrong []string
	k.values, wrong = op.compile(texts, r.syntax)
	for i := range wrong {
		if wrong[i] != "" {
			r.faults.add(nodes[i].off, "%s: %s", op.name, wrong[i])
		}
	}
	return k
}
