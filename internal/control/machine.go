package control

import "galley/scheduler"

// serverShare is the memory that the server keeps for itself.
const serverShare = 1 << 30

// machine is what this machine, or the limit that the server runs under, has
// for attempts, which share so many CPUs. Where the memory is not known, there
// is none to reserve.
func machine(cpus int) scheduler.Resources {
	memory := memoryLimit()
	return scheduler.Resources{
		scheduler.CPU:    int64(cpus) * 1000,
		scheduler.Memory: memory - min(serverShare, memory/4),
	}
}
