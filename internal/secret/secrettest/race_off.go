//go:build !race

package secrettest

const race = false
