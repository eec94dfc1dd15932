package main

import "fmt"

// scale is how much each workload does.
type scale struct {
	Name        string
	SeqMiB      int // sequential file
	RandMiB     int // file that random reads and writes fall in
	RandOps     int
	Appends     int // of appendSize bytes each
	TreeFiles   int // files of the unpacked source tree
	RenameFiles int // files of the renamed directory
	FsyncFiles  int // files created, written and fsynced
}

const (
	seqChunk   = 1 << 20
	randBlock  = 4096
	appendSize = 100
	renames    = 1000 // renames that one measurement averages
)

var scales = []scale{
	{Name: "full", SeqMiB: 512, RandMiB: 256, RandOps: 20_000, Appends: 50_000, TreeFiles: 12_000, RenameFiles: 10_000, FsyncFiles: 1_000},
	{Name: "small", SeqMiB: 128, RandMiB: 64, RandOps: 4_000, Appends: 10_000, TreeFiles: 1_500, RenameFiles: 1_000, FsyncFiles: 200},
}

func findScale(name string) (scale, error) {
	for _, s := range scales {
		if s.Name == name {
			return s, nil
		}
	}
	return scale{}, fmt.Errorf("no scale %q (full or small)", name)
}
