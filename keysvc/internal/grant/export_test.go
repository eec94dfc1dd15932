package grant

// LooksAt is how many grants Find looks at when none of them covers the request.
func (s *Set) LooksAt(c Caller, operation string, context map[string]string) (n int) {
	s.find(c, context, only(operation), func(*Grant) bool { n++; return false })
	return n
}

// Held is how many places of grants the set has, itself and its index.
func (s *Set) Held() (n int) {
	for _, g := range s.grantees {
		n += 1 + len(g.anyContext) + len(g.byPair) + len(g.placed)
	}
	return n + len(s.sorted) + len(s.named)
}
