package scheduler

import "time"

// A Snapshot is all that a plan is made from.
type Snapshot struct {
	Nodes   []Node
	Tenants []Tenant // those with a weight or a quota; others have weight 1 and no quota
	Running []Running
	Queued  []Job
	// Reserved is the reservation of the plan before, if it made one.
	Reserved *Claim
}

// A Claim is a reservation: nodes that a job waits for. It is handed from
// each plan to the next.
type Claim struct {
	Job   string
	Nodes []string // one for each pod
	Since int64    // the last start before it was made
}

// A Node is a machine.
type Node struct {
	ID       string
	Capacity Resources
}

// A Tenant is who resources are shared between.
type Tenant struct {
	Name   string
	Weight int64     // its share relative to others'; 1 if 0
	Quota  Resources // most that its jobs use together; 0 of a kind for no limit
}

// A Job is a gang of equal pods that start together.
type Job struct {
	ID        string
	Tenant    string
	Priority  int
	Aged      int // what waiting added to the priority; see Rank
	Pods      int // 1 if 0
	Pod       Resources
	Submitted int64     // number in the order of submission
	Needs     []string  // jobs that have to succeed first and have not
	Until     time.Time // set while the job may not start yet
}

// Rank orders the queue. Who displaces whom goes by Priority against Rank.
func (j Job) Rank() int { return j.Priority + j.Aged }

// A Running job holds its pods' resources.
type Running struct {
	Job
	Nodes       []string // one for each pod
	Started     int64    // number in the order of starts
	Preemptible bool
	Leaving     bool          // it was asked to end: its resources will be free
	Lost        time.Duration // of work, if it were preempted now
}

// A Plan says what to start and to stop, and why the rest waits. Starts do
// not wait for the preemptions of the same plan.
type Plan struct {
	Start    []Start
	Preempt  []Preemption
	Waiting  []Waiting // in the order of the queue
	Reserved *Claim    // nil if no one needs one
}

// A Start places the pods of a job.
type Start struct {
	Job   string
	Nodes []string // one for each pod
}

// A Preemption asks a job to end to make room.
type Preemption struct {
	Job string
	For string
}

// A Reason is why a job waits.
type Reason string

// The reasons.
const (
	Dependency  Reason = "dependency"  // By has to succeed first
	BackOff     Reason = "back-off"    // it may not start before Until
	TooLarge    Reason = "too large"   // the machines, all empty, cannot hold it
	OverQuota   Reason = "over quota"  // its tenant's quota can never hold it
	Quota       Reason = "quota"       // its tenant uses what its quota allows
	Capacity    Reason = "capacity"    // too little of Kind is free
	Reservation Reason = "reservation" // what is free is kept for By
)

// A Waiting job, and why.
type Waiting struct {
	Job    string
	Reason Reason
	// Place is its place among the jobs that wait for resources, from 1; 0
	// for one that waits for something else.
	Place int
	Kind  Kind  // for quota and capacity
	Need  int64 // of Kind, by all pods
	Free  int64 // of Kind, on all machines or of the quota
	// Scattered says that enough is free, but not on machines that can hold
	// a pod.
	Scattered bool
	By        []string // up to 10: who uses Kind most, holds the reservation, or has to succeed
	Until     time.Time
}
