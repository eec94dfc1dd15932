package fs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// Programs that people run, on a mount each.

// sh runs a shell script in a directory.
func sh(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	// Git and Go shall not look at whose machine this is.
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out[max(0, len(out)-4000):])
	}
	return string(out)
}

// sums describes a tree: one line for each file with its mode and checksum.
func sums(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %v %d", rel, info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(content))
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			b.WriteString(" " + target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sameAfterRemount remounts and compares the tree, then checks the volume.
func sameAfterRemount(t *testing.T, v *fstest.Volume, dir string) {
	t.Helper()
	before := sums(t, dir)
	v.Remount()
	if after := sums(t, dir); after != before {
		t.Error("the tree changed over a remount")
	}
	v.Unmount()
	v.Fsck()
	v.Mount()
}

func TestGit(t *testing.T) {
	fstest.RequireProgram(t, "git", "git")
	v := fstest.New(t)
	origin := filepath.Join(fstest.Dir(t), "origin")
	if err := os.Mkdir(origin, 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, origin, `git init -q .
		for i in $(seq 1 12); do
			mkdir -p d$i
			for j in $(seq 1 15); do seq $i $((i*j*20)) > d$i/f$j; done
			ln -s f1 d$i/link
			git add -A; git commit -qm "commit $i"
		done
		git tag v1; git branch side HEAD~5`)
	// --no-local copies objects as over a network.
	sh(t, v.Mnt, "git clone -q --no-local "+origin+" work && cd work && git fsck --full --strict")
	work := filepath.Join(v.Mnt, "work")
	sh(t, work, `git checkout -q -b feature
		seq 1 5000 > big; git add big; git commit -qm big
		git mv d1 renamed; git commit -qam move
		git rebase -q origin/side~0 >/dev/null 2>&1 || git rebase --abort
		git stash list; echo change >> d3/f3; git stash -q; git stash pop -q
		git gc -q --prune=now; git repack -adq; git fsck --full --strict
		git checkout -q v1; git status --porcelain | grep -v '^ M d3/f3' || true
		git worktree add -q ../tree side; git -C ../tree status --porcelain`)
	sameAfterRemount(t, v, v.Mnt)
	sh(t, work, "git fsck --full --strict && git log --oneline | wc -l && git diff --stat")
}

func TestGoBuild(t *testing.T) {
	v := fstest.New(t)
	goroot := strings.TrimSpace(sh(t, "/", "go env GOROOT"))
	// Packages of the standard library with tests of their own, as a module.
	work := filepath.Join(v.Mnt, "module")
	sh(t, v.Mnt, `mkdir module && cd module && printf 'module example.com/m\n\ngo 1.24\n' > go.mod
		for p in container/list container/ring text/tabwriter encoding/csv; do
			mkdir -p $(basename $p); cp `+goroot+`/src/$p/*.go $(basename $p)/
		done`)
	// Building the standard library too, with the cache inside, takes a while.
	cache := strings.TrimSpace(sh(t, "/", "HOME="+os.Getenv("HOME")+" go env GOCACHE"))
	if fstest.Long() {
		cache = filepath.Join(v.Mnt, "cache")
	}
	sh(t, work, `export GOCACHE=`+cache+` GOFLAGS=-mod=mod GOPROXY=off GOTMPDIR=`+v.Mnt+`
		mkdir -p $GOCACHE
		go build ./... && go vet ./list ./ring && go test ./list ./ring ./tabwriter ./csv
		printf 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("built inside") }\n' > main.go
		go build -o prog . && ./prog | grep -q 'built inside'`)
	sameAfterRemount(t, v, work)
	sh(t, work, "./prog | grep -q 'built inside'")
}

func TestSQLite(t *testing.T) {
	fstest.RequireProgram(t, "sqlite3", "sqlite3")
	v := fstest.New(t)
	for _, mode := range []string{"wal", "delete", "truncate", "persist"} {
		t.Run(mode, func(t *testing.T) {
			db := filepath.Join(v.Mnt, mode+".db")
			var script bytes.Buffer
			fmt.Fprintf(&script, "PRAGMA journal_mode=%s; CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB); CREATE INDEX i ON t(a);\n", mode)
			for tx := range 20 {
				script.WriteString("BEGIN;\n")
				for i := range 50 {
					fmt.Fprintf(&script, "INSERT INTO t(a,b) VALUES('%d-%d', randomblob(%d));\n", tx, i, 1+i*37)
				}
				fmt.Fprintf(&script, "%s;\n", []string{"COMMIT", "COMMIT", "ROLLBACK"}[tx%3])
				fmt.Fprintf(&script, "DELETE FROM t WHERE id%%7=%d; UPDATE t SET b=zeroblob(300) WHERE id%%11=3;\n", tx%7)
			}
			script.WriteString("VACUUM; PRAGMA integrity_check;\n")
			cmd := exec.Command("sqlite3", "-bail", db)
			cmd.Stdin = &script
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
				t.Fatalf("%v\n%s", err, out)
			}
			// Two writers at once wait for each other.
			sh(t, v.Mnt, `pids=; for w in 1 2; do ( for i in $(seq 1 15); do
				sqlite3 -bail -cmd '.timeout 120000' `+db+` "INSERT INTO t(a) VALUES('w$w');"; done ) & pids="$pids $!"; done
				for p in $pids; do wait $p; done`)
			count := func() string {
				return sh(t, v.Mnt, "sqlite3 -bail "+db+" 'PRAGMA integrity_check; SELECT count(*) FROM t WHERE a LIKE \"w%\";'")
			}
			if got := count(); got != "ok\n30\n" {
				t.Errorf("after two writers: %q", got)
			}
			v.Remount()
			if got := count(); got != "ok\n30\n" {
				t.Errorf("after a remount: %q", got)
			}
		})
	}
}

// TestSQLiteCrash kills the worker while a transaction runs: what was
// committed is there.
func TestSQLiteCrash(t *testing.T) {
	fstest.RequireProgram(t, "sqlite3", "sqlite3")
	v := fstest.New(t)
	for round, mode := range []string{"wal", "delete", "wal", "truncate"} {
		db := filepath.Join(v.Mnt, fmt.Sprintf("%d.db", round))
		sh(t, v.Mnt, "sqlite3 "+db+" 'PRAGMA journal_mode="+mode+"; CREATE TABLE t(a)' >/dev/null")
		cmd := exec.Command("sqlite3", "-bail", "-cmd", "PRAGMA synchronous=FULL", db)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			for i := range 100000 {
				if _, err := fmt.Fprintf(in, "INSERT INTO t VALUES(%d);\nSELECT %d;\n", i, i); err != nil {
					return
				}
			}
		}()
		// A while into it: each SELECT says that the INSERT before committed.
		err = fstest.Poll(commandWait, func() (bool, error) {
			var n int
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", cmd.Process.Pid))
			if err == nil {
				_, err = fmt.Sscanf(string(b[bytes.Index(b, []byte("syscw:")):]), "syscw: %d", &n)
			}
			return n > 400*(round+1), err
		})
		if err != nil {
			t.Fatal(err)
		}
		v.Kill()
		_ = cmd.Wait()
		in.Close()
		committed := strings.Count(out.String(), "\n")
		v.Mount()
		got := sh(t, v.Mnt, "sqlite3 "+db+" 'PRAGMA integrity_check; SELECT count(*) FROM t;'")
		var n int
		if _, err := fmt.Sscanf(got, "ok\n%d\n", &n); err != nil || n < committed || n > committed+2 {
			t.Errorf("round %d, %s: %q, want ok and %d rows", round, mode, got, committed)
		}
	}
}

func TestFio(t *testing.T) {
	fstest.RequireProgram(t, "fio", "fio")
	v := fstest.New(t)
	size := "8m"
	if fstest.Long() {
		size = "128m"
	}
	for name, job := range map[string]string{
		"random":     "--rw=randwrite --bs=4k",
		"odd":        "--rw=randwrite --bsrange=700-70000 --bs_unaligned",
		"sequential": "--rw=write --bs=128k",
		"mixed":      "--rw=randrw --bsrange=512-32k --bs_unaligned",
		"direct":     "--rw=randwrite --bs=4k --direct=1",
		"mmap":       "--rw=randwrite --bs=4k --ioengine=mmap",
		"jobs":       "--rw=randwrite --bs=8k --numjobs=3 --fsync=16",
	} {
		t.Run(name, func(t *testing.T) {
			sh(t, v.Mnt, "fio --name="+name+" --directory="+v.Mnt+" --size="+size+
				" --verify=crc32c --verify_fatal=1 --do_verify=1 --fallocate=none "+job)
		})
	}
	v.Unmount()
	v.Fsck()
}

// TestStressNG runs the filesystem stressors with verification.
func TestStressNG(t *testing.T) {
	stress := fstest.RequireProgram(t, "stress-ng", "stress-ng")
	v := fstest.New(t)
	run := func(t *testing.T, stressors string) {
		// 3 says that a stressor does not apply, 4 that it is not implemented
		// on this machine.
		sh(t, v.Mnt, fmt.Sprintf("%s --temp-path %s %s --verify --quiet || { e=$?; test $e -eq 3 || test $e -eq 4 || exit $e; }",
			stress, v.Mnt, stressors))
		v.CheckAlive()
	}
	var all string
	for name, options := range map[string]string{
		"access": "", "chdir": "--chdir-dirs 4096", "chmod": "", "chown": "", "copy-file": "--copy-file-bytes 128m", "dentry": "--dentries 500",
		"dir": "--dir-dirs 500", "dirdeep": "--dirdeep-inodes 2000", "dirmany": "", "fallocate": "--fallocate-bytes 8m",
		"fcntl": "", "filename": "", "flock": "", "fpunch": "", "fstat": "", "getdent": "", "hdd": "--hdd-bytes 16m",
		"io": "", "iomix": "--iomix-bytes 16m", "lease": "", "link": "", "locka": "", "lockf": "", "lockofd": "",
		"mknod": "", "mmap": "--mmap-file --mmap-bytes 8m", "open": "", "readahead": "--readahead-bytes 16m", "rename": "",
		"revio": "--revio-bytes 8m", "seal": "", "seek": "--seek-size 4m", "sendfile": "--sendfile-size 1m",
		"symlink": "", "sync-file": "--sync-file-bytes 8m", "touch": "", "utime": "", "xattr": "",
	} {
		all += fmt.Sprintf(" --%s 1 %s", name, options)
		if fstest.Long() {
			t.Run(name, func(t *testing.T) { run(t, fmt.Sprintf("--%s 2 %s --timeout 20", name, options)) })
		}
	}
	t.Run("together", func(t *testing.T) { run(t, all+" --timeout 15") })
	v.Unmount()
	v.Fsck()
}

// TestTar unpacks a tree with all that tar knows, and packs it again.
func TestTar(t *testing.T) {
	v := fstest.New(t)
	src := filepath.Join(fstest.Dir(t), "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	goroot := strings.TrimSpace(sh(t, "/", "go env GOROOT"))
	sh(t, src, `cp -a `+goroot+`/src/fmt `+goroot+`/src/net . && ln -s fmt/print.go link && ln fmt/print.go hard
		mkfifo fifo && mkdir -m 2775 setgid && truncate -s 3M sparse && printf x >> sparse && chmod 000 fmt/doc.go
		tar --sparse --xattrs -cf ../tree.tar .`)
	sh(t, v.Mnt, "mkdir t && tar --sparse --xattrs -C t -xpf "+filepath.Join(filepath.Dir(src), "tree.tar")+" && diff -r --no-dereference t/net "+src+"/net")
	// Directories' times are set after what is in them.
	if got, want := sums(t, filepath.Join(v.Mnt, "t")), sums(t, src); got != want {
		t.Error("unpacked tree differs from the packed one")
	}
	sameAfterRemount(t, v, filepath.Join(v.Mnt, "t"))
	sh(t, v.Mnt, "tar -cf - t | tar -tf - | wc -l && cp -a t copy && diff -r --no-dereference -x fifo t copy && rm -rf t copy && test -z \"$(ls -A)\"")
}
