// Package scheduler decides which jobs run: a pure function from a Snapshot of
// machines, quotas and jobs to a Plan. It has no clock, no state and no
// randomness: the same snapshot gives the same plan, in whatever order its
// parts are listed.
//
// Jobs are gangs: all pods of a job start together or none does. The queue is
// ordered by rank (priority and what waiting added to it); among equals the
// tenant with the least dominant share goes first (Ghodsi et al., NSDI 2011),
// and within a tenant the older job.
//
// How long a job runs is not known, so the first job that does not fit gets a
// reservation in place of a start time: a claim on the machines where least
// has to end before it fits. Those that start later may use these machines
// only as far as they leave room for the claim, so the holder starts when the
// jobs have ended that ran there when it got the reservation, if not earlier
// elsewhere. It keeps it from plan to plan (Snapshot.Reserved) until it starts
// or a job of a higher rank is blocked; the next one goes to the tenant that
// has least running of what is older than its own blocked job. What filled
// gaps behind a blocked job does not count there, or a tenant's small jobs
// would keep its large one waiting for ever.
//
// The holder may have jobs of a lower priority preempted: those of the lowest
// rank first, among them those that lose the least work, and none that the
// others make needless. A preempted job does not outrank who displaced it, so
// the two do not take turns.
package scheduler
