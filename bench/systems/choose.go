package systems

import (
	"fmt"
	"slices"
	"strings"
)

// Named picks the named systems of all, which have to be installed.
func Named(names string, all []System) ([]System, error) {
	chosen, err := Choose(names, all, func(s System) string { return s.Name })
	if err != nil {
		return nil, err
	}
	for _, s := range chosen {
		if err := s.available(); err != nil {
			return nil, fmt.Errorf("%w\ninstall it (scripts/install-deps.sh bench) or leave it out with --fs", err)
		}
	}
	return chosen, nil
}

// Choose picks the named ones of all, in the order of all.
func Choose[T any](names string, all []T, name func(T) string) ([]T, error) {
	if names == "all" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	var known []string
	chosen := slices.DeleteFunc(slices.Clone(all), func(v T) bool {
		known = append(known, name(v))
		return !slices.Contains(wanted, name(v))
	})
	for _, w := range wanted {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("no %q among %s", w, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
