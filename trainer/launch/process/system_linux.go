package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// attributes give the child a group of its own and death with its parent.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

// preferKilled has the system choose the attempt before the server when it
// needs memory.
func preferKilled() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0) }

// memoryKills is how many processes the system has killed for lack of memory:
// in this process's group, or where there are no groups, on the machine.
func memoryKills() (n int64, ok bool) {
	if data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group(), "memory.events")); err == nil {
		return counter(data)
	}
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0, false
	}
	return counter(data)
}

// group is this process's control group, of version 2.
func group() string {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return ""
}

func counter(data []byte) (int64, bool) {
	for line := range bytes.Lines(data) {
		if value, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
			n, err := strconv.ParseInt(string(value), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
