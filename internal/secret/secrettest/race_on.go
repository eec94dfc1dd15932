//go:build race

package secrettest

const race = true
